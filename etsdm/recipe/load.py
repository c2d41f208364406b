"""From a recipe's file, name or mapping to its arms, each a validated `Recipe`.

**Names.** `digits` is the file `digits.yaml` in the first of these folders that has it: `recipes/` in the current folder, `recipes/` of
a checkout of etsdm, and the recipes that were installed with the package.

**Extends.** `extends: base.yaml`, or a list of files, names the recipes that a file starts from, relative to its own folder. Of a list the
later win over the earlier, and the file itself wins over all (`etsdm.recipe.tree`). Arms are inherited like any field; an
arm that the file leaves empty loses the changes that it inherits.

**Arms.**
    arms:
      baseline:
      e-tsdm:
        model.condition_map: e-tsdm

Each arm holds changes of the recipe, which follow the rule of `etsdm.recipe.tree`. A recipe without arms has one, `default`.

**Overrides.** The key is a path with dots and may count the entries of lists (`evaluation.metrics.0.images=100`). The value is YAML:
`a.b=[1, 2]`, `model.condition_map={type: e-tsdm, n: 10}`, `model.time_input=null`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe.models import Recipe
from etsdm.recipe.tree import COMMAND_LINE, Document, Location, Node, SourceLocation, merge, nested, recipe_error
from etsdm.recipe.yaml import compose
from etsdm.registry import REGISTRIES, format_errors, json_schema, suggestion

__all__ = [
    "DEFAULT_ARM",
    "Arms",
    "arm_document",
    "arm_names",
    "find",
    "load_arms",
    "names",
    "nested_arms",
    "override",
    "read",
    "recipe_schema",
    "validate",
    "why_not_a_file",
]


DEFAULT_ARM = "default"

# An arm's name is a folder of the run, also where file systems ignore case.
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")

M = TypeVar("M", bound=BaseModel)


def _folders() -> list[Path]:
    package = Path(etsdm.__file__).parent
    folders = [Path("recipes"), package / "recipes"]
    # Beside an installed package, `recipes` would be somebody else's.
    if (package.parent / "pyproject.toml").is_file():
        folders.insert(1, package.parent / "recipes")
    return folders


def names() -> dict[str, Path]:
    """The recipes that can be said by name, in alphabetical order, and their files."""
    found: dict[str, Path] = {}
    for folder in reversed(_folders()):
        found |= {file.stem: file for file in folder.glob("*.yaml") if file.is_file()}
    return dict(sorted(found.items()))


def find(name_or_path: str | Path) -> Path:
    """The file of a recipe: a path to one, or else a name, with or without `.yaml`.

    Raises:
        RecipeError: there is no such file; the message says what is near.
    """
    path = Path(name_or_path)
    message = why_not_a_file(path)
    if message is None:
        return path
    if path.name != str(name_or_path):
        raise RecipeError(message)
    known = names()
    name = path.name.removesuffix(".yaml")
    if name not in known:
        searched = ", ".join(str(folder) for folder in _folders())
        raise RecipeError(f"no recipe {path.name!r}; {suggestion(name, known, 'known')} (searched in {searched})")
    return known[name]


def read(path: str | Path) -> Document:
    """Reads a recipe file with all that it extends.

    Raises:
        RecipeError: a file is missing, cannot be read or is not YAML, or it extends itself.
    """
    file = Path(path)
    message = why_not_a_file(file)
    if message:
        raise RecipeError(message)
    return Document(_read(file, ()))


def why_not_a_file(file: Path) -> str | None:
    """Why `file` is no file: a sentence with the near names of its folder; None if it is one."""
    if file.is_dir():
        return f"{file} is a folder; give a file in it"
    if os.path.exists(file):
        return None
    if not file.parent.is_dir():
        return f"no file {file}; there is no folder {file.parent}"
    recipes = {entry.stem: entry.name for entry in sorted(file.parent.glob("*.y*ml"))}
    # Compared without suffixes, which make all files alike.
    if near := get_close_matches(file.stem, recipes):
        return f"no file {file}; did you mean {' or '.join(repr(recipes[stem]) for stem in near)}?"
    return f"no file {file}; recipes in that folder: {', '.join(recipes.values()) or 'none'}"


def _read(file: Path, extending: tuple[Path, ...]) -> Node:
    root = compose(_text(file), partial(SourceLocation, str(file)))
    if root is None:
        raise RecipeError(f"{file} is empty; write the fields of a recipe")
    if not isinstance(root.value, dict):
        raise recipe_error(
            (), f"found {'a list' if isinstance(root.value, list) else repr(root.value)}; give a mapping of fields", root.mark
        )
    merged = Node({})
    for path, node in _extended(root):
        merged = merge(merged, _read(_base(file, path, node, (*extending, file)), (*extending, file)))
    own = {key: node for key, node in root.value.items() if key != "extends"}
    # Nested before merging, so that an arm's changes meet those of the arm below whichever way either is spelled.
    if arms := nested_arms(root):
        own["arms"] = Node(arms, own["arms"].mark)
    return merge(merged, Node(own, root.mark))


def _text(file: Path) -> str:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise recipe_error(
            (), f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", SourceLocation(str(file), line)
        ) from None


def _extended(root: Node) -> list[tuple[Location, Node]]:
    if "extends" not in root.value:
        return []
    extends = root.value["extends"]
    files: list[tuple[Location, Node]] = [(("extends",), extends)]
    if isinstance(extends.value, list):
        files = [(("extends", i), node) for i, node in enumerate(extends.value)]
    for path, node in files:
        if not isinstance(node.value, str) or not node.value:
            raise recipe_error(path, f"found {node.plain!r}; give a file or a list of files", node.mark)
    return files


def _base(file: Path, path: Location, node: Node, chain: tuple[Path, ...]) -> Path:
    base = Path(os.path.normpath(file.parent / node.value))
    message = why_not_a_file(base)
    if message:
        raise recipe_error(path, message, node.mark)
    if base.resolve() in [link.resolve() for link in chain]:
        circle = " -> ".join(str(link) for link in (*chain, base))
        raise recipe_error(path, f"a recipe extends itself: {circle}; take one of these out", node.mark)
    return base


def nested_arms(root: Node) -> dict[str, Node]:
    """The arms of a recipe's tree with their dotted keys nested; empty if the recipe has none.

    Raises:
        RecipeError: `arms` or an arm is not a mapping, or a name cannot be a folder's.
    """
    arms = root.value.get("arms", Node(None))
    if arms.value is None:
        return {}
    if not isinstance(arms.value, dict):
        raise recipe_error(("arms",), f"found {arms.plain!r}; give a mapping of names to changes", arms.mark)
    return {name: _nested_arm(name, changes) for name, changes in arms.value.items()}


def _nested_arm(name: str, changes: Node) -> Node:
    if not _NAME.fullmatch(name):
        message = "is no name for an arm; use lower case letters and digits, joined by single hyphens or underscores"
        raise recipe_error(("arms",), f"{name!r} {message}", changes.place)
    if changes.value is None:
        return changes
    if not isinstance(changes.value, dict):
        raise recipe_error(("arms", name), f"found {changes.plain!r}; give a mapping of changes, or nothing", changes.mark)
    return Node(nested(changes, ("arms", name)).value, changes.mark)


def arm_names(document: Document) -> list[str]:
    """The names of the arms in the order of the recipe."""
    return list(nested_arms(document.root)) or [DEFAULT_ARM]


def arm_document(document: Document, name: str) -> Document:
    """The recipe of one arm: its changes merged in, `arms` taken away.

    Raises:
        RecipeError: there is no such arm, or the arms are malformed.
    """
    arms = nested_arms(document.root) or {DEFAULT_ARM: Node(None)}
    if name not in arms:
        raise recipe_error(("arms",), f"there is no arm {name!r}; {suggestion(name, arms, 'it has')}", document.place(("arms",)))
    recipe = Node({key: node for key, node in document.root.value.items() if key != "arms"}, document.root.mark)
    # Without the mark of the arm: a field that is missing from the recipe is missing there, not in the arm.
    return Document(merge(recipe, Node(arms[name].value or {})))


def override(document: Document, assignments: Iterable[str]) -> Document:
    """Merges `key=value` texts into a document, one after the other.

    Raises:
        RecipeError: an assignment is not of that form, or its value is not YAML.
    """
    root = document.root
    for assignment in assignments:
        root = merge(root, nested(_parse(assignment)))
    return Document(root)


def _parse(assignment: str) -> Node:
    key, sign, text = assignment.partition("=")
    key = key.strip()
    if not sign or not key:
        raise recipe_error((), f"override {assignment!r}: write key=value, for example training.images=20000", COMMAND_LINE)
    value = compose(text, lambda line: COMMAND_LINE, (key,))
    if value is None:
        raise recipe_error(
            (key,), f"no value after the equals sign; write {key}=null for none or {key}=\"''\" for empty text", COMMAND_LINE
        )
    return Node({key: value})


def validate(document: Document, model: type[M]) -> M:
    """Makes a model of a document.

    Raises:
        RecipeError: the model refuses the document; one line `field.path: message (file:line)` for each problem. The mark is
            that of the field, and of the mapping or part around it where the field itself was not written.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = [recipe_error(found.location, found.message, document.place(found.location)) for found in format_errors(error)]
    raise RecipeError("\n".join(" ".join(str(problem).splitlines()) for problem in problems))


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
                raise recipe_error(("arms", name, field), f"all arms of a recipe have one {field}; set it for the whole recipe", place)
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
