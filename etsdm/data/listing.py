"""The image files of a folder, in an order that is the same everywhere, and a digest that tells them apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from etsdm.errors import DataError
from etsdm.storage.files import sha256_of

__all__ = ["EXTENSIONS", "image_files", "listing_digest"]

EXTENSIONS = ("png", "jpg", "jpeg", "webp")  # of files that are images where nothing else is said
READ = 64 * 2**20  # bytes of content that a digest of a listing is made of, about


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


def listing_digest(root: Path, names: Sequence[str], read: int = READ) -> str:
    """Tells files apart by their names and sizes, and by the content of as many as `read` bytes allow.

    Files that hold no more than `read` bytes together are all read. Of more, every k-th is, and a change that keeps all names and
    sizes and touches none of these is not seen; compressed images that differ seldom have one size.

    Args:
        root: the folder.
        names: paths below it.
        read: bytes.

    Returns:
        Hex sha256, the same wherever the folder is.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        sizes = [(root / name).stat().st_size for name in names]
        every = max(1, -(-sum(sizes) // read))
        for k, (name, size) in enumerate(zip(names, sizes, strict=True)):
            content = "" if k % every else sha256_of(root / name)
            digest.update(os.fsencode(f"{size} {content} {name}\0"))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); make it readable or move it away") from error
    return digest.hexdigest()


def _refuse_circle(folder: Path) -> None:
    # Its images would be found again and again, forty times deep.
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder}: is a link to a folder that it is in; remove it")


def _stop(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable or move it away") from error
