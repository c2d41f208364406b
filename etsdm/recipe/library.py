"""Recipes that can be said by name.

`digits` is the file `digits.yaml` in the first of these folders that has it: `recipes/` in the current folder, `recipes/` of
a checkout of etsdm, and the recipes that were installed with the package.
"""

from __future__ import annotations

from pathlib import Path

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe.reading import fault
from etsdm.registry import suggestion

__all__ = ["find", "names"]


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
    message = fault(path)
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
