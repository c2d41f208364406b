"""Recipe files: reading them, and what they extend.

`extends: base.yaml`, or a list of files, names the recipes that a file starts from, relative to its own folder. Of a list the
later win over the earlier, and the file itself wins over all (`etsdm.recipe.merging`). Arms are inherited like any field; an
arm that the file leaves empty loses the changes that it inherits.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from etsdm.errors import RecipeError
from etsdm.recipe.arms import nested_arms
from etsdm.recipe.document import Document, Location, Mark, Node, refusal
from etsdm.recipe.merging import merge
from etsdm.recipe.yaml import compose

__all__ = ["fault", "read"]


def read(path: str | Path) -> Document:
    """Reads a recipe file with all that it extends.

    Raises:
        RecipeError: a file is missing, cannot be read or is not YAML, or it extends itself.
    """
    file = Path(path)
    message = fault(file)
    if message:
        raise RecipeError(message)
    return Document(_read(file, ()))


def fault(file: Path) -> str | None:
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
    root = compose(_text(file), partial(Mark, str(file)))
    if root is None:
        raise RecipeError(f"{file} is empty; write the fields of a recipe")
    if not isinstance(root.value, dict):
        raise refusal((), f"found {'a list' if isinstance(root.value, list) else repr(root.value)}; give a mapping of fields", root.mark)
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
        raise refusal((), f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", Mark(str(file), line)) from None


def _extended(root: Node) -> list[tuple[Location, Node]]:
    if "extends" not in root.value:
        return []
    extends = root.value["extends"]
    files: list[tuple[Location, Node]] = [(("extends",), extends)]
    if isinstance(extends.value, list):
        files = [(("extends", i), node) for i, node in enumerate(extends.value)]
    for path, node in files:
        if not isinstance(node.value, str) or not node.value:
            raise refusal(path, f"found {node.plain!r}; give a file or a list of files", node.mark)
    return files


def _base(file: Path, path: Location, node: Node, chain: tuple[Path, ...]) -> Path:
    base = Path(os.path.normpath(file.parent / node.value))
    message = fault(base)
    if message:
        raise refusal(path, message, node.mark)
    if base.resolve() in [link.resolve() for link in chain]:
        circle = " -> ".join(str(link) for link in (*chain, base))
        raise refusal(path, f"a recipe extends itself: {circle}; take one of these out", node.mark)
    return base
