"""Image files below a folder: listed in an order that is the same on every machine, read, and fingerprinted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

from etsdm.data.decode import EXTENSIONS
from etsdm.errors import DataError
from etsdm.storage.files import sha256_of
from etsdm.storage.regular import MAX_IMAGE_BYTES, open_regular, read_regular

__all__ = ["image_files", "is_image", "open_file", "quick_fingerprint", "read_file", "sampled_fingerprint"]

FINGERPRINT_BYTES = 64 * 2**20  # content that a quick fingerprint reads, about
BLOCK_BYTES = 2**18  # of large files, that are read at a time


def image_files(root: Path, extensions: Collection[str] = EXTENSIONS) -> list[str]:
    """Lists the image files in a folder and its sub-folders, links to folders included.

    Args:
        root: the folder.
        extensions: of image files, in lower case and without a dot; names in capitals match too.

    Returns:
        Paths below `root`, with `/`, sorted by code point. Files and folders whose names begin with a dot are skipped.

    Raises:
        DataError: a sub-folder cannot be listed, or is a link to a folder that contains it.
    """
    found = []
    for folder, below, names in os.walk(root, onerror=_refuse_unlisted, followlinks=True):
        here = Path(folder)
        _refuse_circle(here)
        below[:] = (name for name in below if not name.startswith("."))
        images = (name for name in names if is_image(name, extensions))
        within = here.relative_to(root)
        found += [(within / name).as_posix() for name in images]
    return sorted(found)


def is_image(name: str, extensions: Collection[str] = EXTENSIONS) -> bool:
    """Whether a name, or a path with `/`, is that of an image: of an extension, in letters of any case, and not hidden by a dot."""
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not hidden and Path(parts[-1]).suffix[1:].lower() in extensions


def read_file(file: Path) -> bytes:
    """Reads an image file. Raises: DataError if it cannot be read, is not regular, or larger than any image that can be decoded."""
    try:
        return read_regular(file, MAX_IMAGE_BYTES)
    except OSError as error:
        raise _unreadable(error) from error


def open_file(file: Path) -> IO[bytes]:
    """Opens an image file for reading. Raises: DataError if it cannot be opened, or is not regular."""
    try:
        return open_regular(file)
    except OSError as error:
        raise _unreadable(error) from error


def quick_fingerprint(root: Path, names: Sequence[str], max_bytes: int = FINGERPRINT_BYTES) -> str:
    """Hashes names and sizes of all files, and contents up to about `max_bytes`.

    All contents count if they have `max_bytes` or fewer together. Of more, that of every k-th file does: a change that keeps all names
    and sizes and touches none of these files is not noticed. Compressed images that differ seldom have the same size.

    Args:
        root: the folder.
        names: paths below it.
        max_bytes: content to read.

    Returns:
        Hex sha256, independent of where the folder is.

    Raises:
        DataError: a file cannot be read.
    """
    fingerprint = hashlib.sha256()
    try:
        sizes = [(root / name).stat().st_size for name in names]
        every = max(1, -(-sum(sizes) // max_bytes))
        for k, (name, size) in enumerate(zip(names, sizes, strict=True)):
            content = "" if k % every else sha256_of(root / name)
            fingerprint.update(os.fsencode(f"{size} {content} {name}\0"))
    except OSError as error:
        raise _unreadable(error) from error
    return fingerprint.hexdigest()


def sampled_fingerprint(files: Sequence[Path], max_bytes: int = FINGERPRINT_BYTES) -> str:
    """Hashes sizes of large files, such as databases, and contents up to about `max_bytes`.

    All content counts if there is no more. Of more, blocks at equal distances do, the first and the last of each file among them.

    Args:
        files: in an order that does not depend on their place.
        max_bytes: content to read.

    Returns:
        Hex sha256, independent of where the files are.

    Raises:
        DataError: a file cannot be read.
    """
    fingerprint = hashlib.sha256()
    try:
        sizes = [file.stat().st_size for file in files]
        blocks = max(2, max_bytes // BLOCK_BYTES // max(1, len(files)))
        for path, size in zip(files, sizes, strict=True):
            fingerprint.update(f"{size}\0".encode())
            starts: Sequence[int] = range(0, size, BLOCK_BYTES)
            if sum(sizes) > max_bytes and len(starts) > blocks:
                starts = [k * (size - BLOCK_BYTES) // (blocks - 1) for k in range(blocks)]
            with open_regular(path) as file:
                for start in starts:
                    file.seek(start)
                    fingerprint.update(file.read(BLOCK_BYTES))
    except OSError as error:
        raise _unreadable(error) from error
    return fingerprint.hexdigest()


def _refuse_circle(folder: Path) -> None:
    # Its images would be found again and again, forty times deep.
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder}: is a link to a folder that contains it; remove it")


def _refuse_unlisted(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable or move it away") from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); make it readable or move it away")
