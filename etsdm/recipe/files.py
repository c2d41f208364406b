"""Recipe files: their search by name, and their reading with `extends`.

The name `digits` stands for the file `digits.yaml` in the first of these folders that has it: `recipes/` in the current folder,
`recipes/` of a checkout of etsdm, and the recipes installed with the package.

`extends: base.yaml`, or a list of files, names the recipes that a file starts from, relative to its own folder. Later files of a list
override earlier ones, and the file itself overrides all (the rule is that of `etsdm.recipe.tree`). Arms are inherited like any field; an
arm without changes also drops the changes that it would inherit.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe.arms import nested_arms
from etsdm.recipe.tree import Document, FieldPath, Node, SourceLocation, merge, recipe_error
from etsdm.recipe.yaml import compose
from etsdm.registry import suggestion

__all__ = ["find", "names", "read", "why_not_a_file"]


def _folders() -> list[Path]:
    package = Path(etsdm.__file__).parent
    folders = [Path("recipes"), package / "recipes"]
    # In site-packages, a folder `recipes` beside the package is not ours.
    if (package.parent / "pyproject.toml").is_file():
        folders.insert(1, package.parent / "recipes")
    return folders


def names() -> dict[str, Path]:
    """The files of all named recipes, by name in alphabetical order."""
    found: dict[str, Path] = {}
    for folder in reversed(_folders()):
        found |= {file.stem: file for file in folder.glob("*.yaml") if file.is_file()}
    return dict(sorted(found.items()))


def find(name_or_path: str | Path) -> Path:
    """Finds the file of a recipe from a path or a name, with or without `.yaml`.

    Raises:
        RecipeError: there is no such file; the message has close names.
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
    """Reads a recipe file and the files that it extends.

    Raises:
        RecipeError: a file is missing, unreadable or no YAML, or it extends itself.
    """
    file = Path(path)
    message = why_not_a_file(file)
    if message:
        raise RecipeError(message)
    return Document(_read(file, ()))


def why_not_a_file(file: Path) -> str | None:
    """An error message, with close names of the folder, for a path that is no file; None for a file."""
    if file.is_dir():
        return f"{file} is a folder; give a file in it"
    if os.path.exists(file):
        return None
    if not file.parent.is_dir():
        return f"no file {file}; there is no folder {file.parent}"
    recipes = {entry.stem: entry.name for entry in sorted(file.parent.glob("*.y*ml"))}
    # Compared without suffixes, which would make all names similar.
    if near := get_close_matches(file.stem, recipes):
        return f"no file {file}; did you mean {' or '.join(repr(recipes[stem]) for stem in near)}?"
    return f"no file {file}; recipes in that folder: {', '.join(recipes.values()) or 'none'}"


def _read(file: Path, extending: tuple[Path, ...]) -> Node:
    root = compose(_text(file), partial(SourceLocation, str(file)))
    if root is None:
        raise RecipeError(f"{file} is empty; write the fields of a recipe")
    if not isinstance(root.value, dict):
        raise recipe_error(
            (), f"found {'a list' if isinstance(root.value, list) else repr(root.value)}; give a mapping of fields", root.location
        )
    merged = Node({})
    for path, node in _extended(root):
        merged = merge(merged, _read(_base(file, path, node, (*extending, file)), (*extending, file)))
    own = {key: node for key, node in root.value.items() if key != "extends"}
    # Nested before merging, so that dotted and nested spellings of one field in two files meet.
    if arms := nested_arms(root):
        own["arms"] = Node(arms, own["arms"].location)
    return merge(merged, Node(own, root.location))


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


def _extended(root: Node) -> list[tuple[FieldPath, Node]]:
    if "extends" not in root.value:
        return []
    extends = root.value["extends"]
    files: list[tuple[FieldPath, Node]] = [(("extends",), extends)]
    if isinstance(extends.value, list):
        files = [(("extends", i), node) for i, node in enumerate(extends.value)]
    for path, node in files:
        if not isinstance(node.value, str) or not node.value:
            raise recipe_error(path, f"found {node.plain!r}; give a file or a list of files", node.location)
    return files


def _base(file: Path, path: FieldPath, node: Node, chain: tuple[Path, ...]) -> Path:
    base = Path(os.path.normpath(file.parent / node.value))
    message = why_not_a_file(base)
    if message:
        raise recipe_error(path, message, node.location)
    if base.resolve() in [link.resolve() for link in chain]:
        circle = " -> ".join(str(link) for link in (*chain, base))
        raise recipe_error(path, f"a recipe extends itself: {circle}; take one of these out", node.location)
    return base
