"""Loading: from a recipe's file, name or mapping to its arms, each a validated `Recipe`.

Overrides are `key=value` texts. The key is a dotted path, in which a number is an index into a list
(`evaluation.metrics.0.images=100`). The value is YAML: `a.b=[1, 2]`, `model.condition_map={type: e-tsdm, n: 10}`,
`model.time_input=null`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from etsdm.analysis import measured_edges
from etsdm.errors import RecipeError
from etsdm.recipe.arms import DEFAULT_ARM, DROP, arm_document, arm_names, merge_recipes
from etsdm.recipe.files import extended, find, read
from etsdm.recipe.limits import MAX_OVERRIDES, MAX_PROBLEMS, check_key
from etsdm.recipe.locations import COMMAND_LINE, recipe_error
from etsdm.recipe.models import Recipe
from etsdm.recipe.tree import Document, Node, nested
from etsdm.recipe.yaml import compose
from etsdm.registry import REGISTRIES, format_errors, json_schema, quoted
from etsdm.storage.faults import storage_errors

__all__ = ["Arms", "load_arms", "override", "recipe_schema", "validate"]

M = TypeVar("M", bound=BaseModel)


def override(document: Document, assignments: Iterable[str]) -> Document:
    """Merges `key=value` overrides into a document, in order.

    Raises:
        RecipeError: an override has another form, or its value is no YAML.
    """
    root = document.root
    assignments = list(assignments)
    if len(assignments) > MAX_OVERRIDES:
        raise recipe_error((), f"{len(assignments):,} overrides; give {MAX_OVERRIDES:,} or fewer, or a file", COMMAND_LINE)
    for assignment in assignments:
        root = merge_recipes(root, nested(_parse(assignment)))
    return Document(root)


def _parse(assignment: str) -> Node:
    key, sign, text = assignment.partition("=")
    key = key.strip()
    if not sign or not key:
        raise recipe_error((), f"override {quoted(assignment)}: write key=value, for example training.images=20000", COMMAND_LINE)
    check_key(key, (), COMMAND_LINE)
    value = compose(text, lambda line: COMMAND_LINE, (key,))
    if value is None:
        raise recipe_error(
            (key,), f"no value after the equals sign; write {key}=null for none or {key}=\"''\" for empty text", COMMAND_LINE
        )
    return Node({key: value})


def validate(document: Document, model: type[M]) -> M:
    """Validates a document as a model.

    Raises:
        RecipeError: invalid fields, one line `field.path: message (file:line)` each. The source location of a field that was not
            written is that of the mapping or part around it.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise _located(error, document) from None


def _located(error: ValidationError, document: Document) -> RecipeError:
    """The error of a recipe with the source locations of invalid fields."""
    found = format_errors(error)
    problems = [recipe_error(one.location, one.message, document.location_of(one.location)) for one in found[:MAX_PROBLEMS]]
    lines = [" ".join(str(problem).splitlines()) for problem in problems]
    if len(found) > MAX_PROBLEMS:
        lines.append(f"and {len(found) - MAX_PROBLEMS:,} more")
    return RecipeError("\n".join(lines))


class Arms(NamedTuple):
    """The arms of a recipe, validated.

    Fields: recipes, by arm name in the recipe's order; as_written, the name of the arm without changes, or else of the first.
    """

    recipes: dict[str, Recipe]
    as_written: str


@storage_errors()
def load_arms(source: str | Path | Mapping[str, Any] | Recipe, *overrides: str) -> Arms:
    """Loads a recipe, applies overrides, and validates every arm.

    Overrides apply before arms, so that the fields of an arm win over them.

    Args:
        source: a path, the name of a recipe (`names`), a mapping, or a `Recipe`, which has one arm.
        *overrides: `key=value` texts.

    Raises:
        RecipeError: unreadable, or a field is invalid; the message has the field, the file and the line.
    """
    for given in overrides:
        if not isinstance(given, str):
            raise RecipeError(f"override {quoted(given)}: is no text; write key=value, for example 'training.images=20000'")
    if not isinstance(source, str | Path | Mapping | Recipe):
        raise RecipeError(f"recipe: found {quoted(source)}; give a path, a name, a mapping or a Recipe")
    if isinstance(source, str | Path):
        file = find(source)
        document = _named(read(file), file)
    else:
        document = _unnamed(Document.of(source))
    document = override(document, overrides)
    names = arm_names(document)
    documents = {name: arm_document(document, name) for name in names}
    recipes = {name: validate(documents[name], Recipe) for name in names}
    edges = _common_edges(recipes)
    for name, recipe in recipes.items():
        try:
            evaluation = recipe.evaluation.model_copy(update={"edges": edges[name]})
            recipes[name] = recipe.model_copy(update={"evaluation": evaluation})
        except ValidationError as error:
            raise _located(error, documents[name]) from None
    unchanged = document.root.value.keys() - {"arms"}
    plain = {key: document.data[key] for key in unchanged}
    as_written = next((name for name in names if documents[name].data == plain), names[0])
    for name, recipe in recipes.items():
        for field in ("name", "seeds"):
            if getattr(recipe, field) != getattr(recipes[as_written], field):
                location = documents[name].location_of((field,))
                raise recipe_error(("arms", name, field), f"all arms of a recipe have one {field}; set it for the whole recipe", location)
    return Arms(recipes, as_written)


def _common_edges(recipes: Mapping[str, Recipe]) -> dict[str, tuple[float, ...]]:
    """For each arm `evaluation.edges`, or where it states none the sub-intervals of all arms of the same schedule."""
    found = {}
    for name, recipe in recipes.items():
        schedule = recipe.model.schedule
        maps = [other.model.condition_map for other in recipes.values() if other.model.schedule == schedule]
        found[name] = recipe.evaluation.edges or measured_edges(maps, schedule)
    return found


def _named(document: Document, file: Path) -> Document:
    """Sets the file's stem as the recipe's name, unless this file has a name; names are not inherited by `extends`."""
    entries = dict(document.root.value)
    stated = entries.get("name")
    if stated is None or stated.location is None or Path(stated.location.file) != file:
        entries["name"] = Node(file.stem, document.root.location)
    return Document(Node(entries, document.root.location))


def _unnamed(document: Document) -> Document:
    """A mapping with what it extends, whose names are not inherited."""
    whole = extended(document)
    entries = {key: node for key, node in whole.root.value.items() if key != "name" or key in document.root.value}
    return Document(Node(entries, whole.root.location))


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipe files, with every registered part, for completion and checks in editors.

    No field is required, `type` neither: it may come from an extended file, from an arm, or be that of the default.
    """
    schema: dict[str, Any] = _without_required(json_schema(Recipe, REGISTRIES))
    kinds = [{"type": ["object", "null"]}, {"const": DROP}]
    changes = {
        "anyOf": kinds,
        "description": f"changes of the recipe, with dotted or nested keys; {DROP!r} for an inherited arm to leave out",
    }
    arms = {"type": "object", "additionalProperties": changes, "description": f"variants to compare; without them one, {DEFAULT_ARM!r}"}
    extends = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "description": "recipes to start from"}
    return {**schema, "properties": {"extends": extends, "arms": arms, **schema["properties"]}}


def _without_required(node: Any) -> Any:
    """A schema in which no field is required."""
    if isinstance(node, list):
        return [_without_required(child) for child in node]
    if not isinstance(node, dict):
        return node
    # The list of names, not a field or a part that is called so.
    return {key: _without_required(child) for key, child in node.items() if not (key == "required" and isinstance(child, list))}
