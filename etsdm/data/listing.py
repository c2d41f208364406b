"""The image files of a folder, in an order that is the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from etsdm.registry import DataError

__all__ = ["EXTENSIONS", "image_files"]

EXTENSIONS = ("png", "jpg", "jpeg", "webp")  # of files that are images where nothing else is said


def image_files(root: Path, extensions: Collection[str] = EXTENSIONS) -> list[str]:
    """Finds the image files in a folder and its sub-folders, also where these are links.

    Args:
        root: the folder.
        extensions: of names that are images, in lower case and without a dot; names in capitals match too.

    Returns:
        Paths below `root`, with `/`, in the order of their characters; nothing whose name begins with a dot.

    Raises:
        DataError: a sub-folder cannot be listed, or is a link to a folder that it is in.
    """
    found = []
    for folder, below, names in os.walk(root, onerror=_stop, followlinks=True):
        here = Path(folder)
        _refuse_circle(here)
        below[:] = (name for name in below if not name.startswith("."))
        images = (name for name in names if not name.startswith(".") and Path(name).suffix[1:].lower() in extensions)
        within = here.relative_to(root)
        found += [(within / name).as_posix() for name in images]
    return sorted(found)


def _refuse_circle(folder: Path) -> None:
    # Its images would be found again and again, forty times deep.
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder}: is a link to a folder that it is in; remove it")


def _stop(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable or move it away") from error
