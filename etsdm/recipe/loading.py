"""From a recipe's file, name or mapping to its arms, each a validated `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.recipe.arms import DEFAULT_ARM, arm_document, arm_names
from etsdm.recipe.document import Document, Node, refusal
from etsdm.recipe.library import find
from etsdm.recipe.models import Recipe
from etsdm.recipe.overrides import override
from etsdm.recipe.reading import read
from etsdm.recipe.validation import validate
from etsdm.registry import REGISTRIES, json_schema

__all__ = ["Arms", "load_arms", "recipe_schema"]


class Arms(NamedTuple):
    """The arms of a recipe.

    Fields: recipes by arm name, in the recipe's order; as_written, the arm that changes nothing, or else the first.
    """

    recipes: dict[str, Recipe]
    as_written: str


def load_arms(source: str | Path | Mapping[str, Any] | Recipe, *overrides: str) -> Arms:
    """Reads a recipe, applies overrides, and validates every arm.

    Overrides come before arms: what an arm sets, it sets whatever the override says.

    Args:
        source: a path, the name of a recipe that comes with etsdm, a mapping, or a `Recipe`, which is one arm.
        *overrides: `key=value` texts.

    Raises:
        RecipeError: it cannot be read, or a field is refused; the message names the field, the file and the line.
    """
    if isinstance(source, str | Path):
        file = find(source)
        document = _named(read(file), file)
    else:
        document = Document.of(source)
    document = override(document, overrides)
    names = arm_names(document)
    documents = {name: arm_document(document, name) for name in names}
    recipes = {name: validate(documents[name], Recipe) for name in names}
    unchanged = document.root.value.keys() - {"arms"}
    plain = {key: document.data[key] for key in unchanged}
    as_written = next((name for name in names if documents[name].data == plain), names[0])
    for name, recipe in recipes.items():
        for field in ("name", "seeds"):
            if getattr(recipe, field) != getattr(recipes[as_written], field):
                place = documents[name].place((field,))
                raise refusal(("arms", name, field), f"all arms of a recipe have one {field}; set it for the whole recipe", place)
    return Arms(recipes, as_written)


def _named(document: Document, file: Path) -> Document:
    """The file's stem as the experiment's name, unless this file itself states one: a name is not inherited by `extends`."""
    entries = dict(document.root.value)
    stated = entries.get("name")
    if stated is None or stated.mark is None or Path(stated.mark.file) != file:
        entries["name"] = Node(file.stem, document.root.mark)
    return Document(Node(entries, document.root.mark))


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, with every registered part, for editors."""
    schema = json_schema(Recipe, REGISTRIES)
    changes = {"type": ["object", "null"], "description": "changes of the recipe, with dotted or nested keys"}
    arms = {"type": "object", "additionalProperties": changes, "description": f"variants to compare; without them one, {DEFAULT_ARM!r}"}
    extends = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "description": "recipes to start from"}
    # A file that extends another may leave out what that one says.
    schema.pop("required", None)
    return {**schema, "properties": {"extends": extends, "arms": arms, **schema["properties"]}}
