"""Recipe files: their search by name, and their reading with `extends`.

The name `digits` stands for the file `digits.yaml` in the first of these folders that has it: `recipes/` in the current folder,
`recipes/` of a checkout of etsdm, and the recipes installed with the package.

`extends: base.yaml`, or a list of files, names the recipes that a file starts from, relative to its own folder. Later files of a list
override earlier ones, and the file itself overrides all (the rule is that of `etsdm.recipe.tree`). Arms are inherited like any field, and
can be dropped (`etsdm.recipe.arms`). The `extends` of a mapping takes names, too, and paths from the working directory.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe.arms import merge_recipes, nested_arms
from etsdm.recipe.limits import MAX_BYTES, MAX_FILES, MAX_LEVELS, MAX_TEXT, Budget
from etsdm.recipe.locations import FieldPath, SourceLocation, recipe_error
from etsdm.recipe.tree import Document, Node
from etsdm.recipe.yaml import compose
from etsdm.registry import cut, quoted, suggestion
from etsdm.storage.faults import storage_errors
from etsdm.storage.regular import read_regular

__all__ = ["extended", "find", "names", "read", "why_not_a_file"]

MAX_FILE_NAME = 255  # bytes, of most file systems


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


@storage_errors()
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
        if os.path.exists(path):  # a folder, a named pipe
            raise RecipeError(message)
        searched = ", ".join(str(folder) for folder in _folders())
        raise RecipeError(f"no recipe {quoted(path.name)}; {suggestion(name, known, 'known')} (searched in {searched})")
    return known[name]


@storage_errors()
def read(path: str | Path) -> Document:
    """Reads a recipe file and the files that it extends.

    Raises:
        RecipeError: a file is missing, unreadable or no YAML, or it extends itself.
    """
    file = Path(path)
    message = why_not_a_file(file)
    if message:
        raise RecipeError(message)
    return Document(_Reader().read(file))


def extended(document: Document) -> Document:
    """Merges a recipe given as a mapping over those that it extends, by paths from the working directory or by names.

    Raises:
        RecipeError: as `read`.
    """
    return Document(_Reader().over_bases(document.root))


def why_not_a_file(file: Path) -> str | None:
    """An error message, with close names of the folder, for a path that is no file; None for a file."""
    if os.path.isfile(file):
        return None
    # os.path, unlike pathlib, takes names that no file can have.
    if os.path.isdir(file):
        return f"{file} is a folder; give a file in it"
    if os.path.exists(file):
        return f"{file} is a device, a named pipe or a socket; give a regular file"
    if len(str(file)) > MAX_TEXT or max(map(len, file.parts), default=0) > MAX_FILE_NAME:
        return f"no file has a path of {len(str(file)):,} characters, as {cut(str(file))}; give the path of a recipe"
    if not os.path.isdir(file.parent):
        return f"no file {file}; there is no folder {file.parent}"
    recipes = {entry.stem: entry.name for entry in sorted(file.parent.glob("*.y*ml"))}
    # Compared without suffixes, which would make all names similar.
    if near := get_close_matches(file.stem, recipes):
        return f"no file {file}; did you mean {' or '.join(repr(recipes[stem]) for stem in near)}?"
    return f"no file {file}; recipes in that folder: {', '.join(recipes.values()) or 'none'}"


class _Reader:
    """Reads a recipe and all that it extends, each file once, within one budget of bytes, values and files."""

    def __init__(self) -> None:
        self._merged: dict[Path, Node] = {}
        self._budget = Budget()
        self._bytes_left = MAX_BYTES

    def read(self, file: Path, extending: tuple[Path, ...] = ()) -> Node:
        """The tree of a file, merged over those that it extends. Args: extending: the files that led here, outermost first."""
        known = file.resolve()
        if known not in self._merged:
            self._merged[known] = self._read(file, extending)
        return self._merged[known]

    def _read(self, file: Path, extending: tuple[Path, ...]) -> Node:
        root = compose(self._text(file), partial(SourceLocation, str(file)), budget=self._budget)
        if root is None:
            raise RecipeError(f"{file} is empty; write the fields of a recipe")
        if not isinstance(root.value, dict):
            # What a file that is no recipe holds may not be for all eyes.
            raise recipe_error((), f"found {_kind(root.value)}; give a mapping of fields", root.location)
        return self.over_bases(root, (*extending, file))

    def over_bases(self, root: Node, chain: tuple[Path, ...] = ()) -> Node:
        """Merges a recipe over those that it extends. Args: chain: files that led here, the recipe's own last; none of a mapping."""
        merged = Node({})
        for path, node in _extended(root):
            base = _base(path, node, chain) if chain else find(node.value)
            if len(chain) > MAX_LEVELS or len(self._merged) + len(chain) > MAX_FILES:
                limits = f"{MAX_LEVELS} levels of files that extend files, or {MAX_FILES} files"
                raise recipe_error(path, f"these are more than {limits}; put some of them together", node.location)
            merged = merge_recipes(merged, self.read(base, chain))
        own = {key: node for key, node in root.value.items() if key != "extends"}
        # Nested before merging, so that dotted and nested spellings of one field in two files meet.
        if arms := nested_arms(root):
            own["arms"] = Node(arms, own["arms"].location)
        return merge_recipes(merged, Node(own, root.location))

    def _text(self, file: Path) -> str:
        try:
            raw = read_regular(file, MAX_BYTES)
        except OSError as error:
            raise RecipeError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}; give another file") from None
        self._bytes_left -= len(raw)
        if self._bytes_left < 0:
            raise RecipeError(f"{file}: a recipe with all that it extends has more than {MAX_BYTES:,} bytes; give a smaller file")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
            raise recipe_error((), message, SourceLocation(str(file), line)) from None


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "text" if isinstance(value, str) else f"the value {quoted(value)}"


def _extended(root: Node) -> list[tuple[FieldPath, Node]]:
    if "extends" not in root.value:
        return []
    extends = root.value["extends"]
    files: list[tuple[FieldPath, Node]] = [(("extends",), extends)]
    if isinstance(extends.value, list):
        files = [(("extends", i), node) for i, node in enumerate(extends.value)]
    for path, node in files:
        if not isinstance(node.value, str) or not node.value:
            raise recipe_error(path, f"found {quoted(node.plain)}; give a file or a list of files", node.location)
    return files


def _base(path: FieldPath, node: Node, chain: tuple[Path, ...]) -> Path:
    base = Path(os.path.normpath(chain[-1].parent / node.value))
    message = why_not_a_file(base)
    if message:
        raise recipe_error(path, message, node.location)
    if base.resolve() in [link.resolve() for link in chain]:
        circle = " -> ".join(str(link) for link in (*chain, base))
        raise recipe_error(path, f"a recipe extends itself: {circle}; take one of these out", node.location)
    return base
