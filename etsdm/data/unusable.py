"""Lists of images that cannot be used, one for each state of the files, kept so that a set of images is decoded once for them.

A list is kept in the process, and in the user's cache folder if that can be written.
"""

from __future__ import annotations

from typing import ClassVar

from etsdm.errors import EtsdmError
from etsdm.storage.cache import cache_folder
from etsdm.storage.records import Record, read_record, write_record

__all__ = ["keep", "recall"]


class UnusableImages(Record):
    """Images that cannot be used. Attributes: images: messages by name."""

    FORMAT: ClassVar[int] = 1

    images: dict[str, str]


_known: dict[str, dict[str, str]] = {}


def recall(digest: str) -> dict[str, str] | None:
    """The list for a state of the files, None if none is kept or it is damaged. Args: digest: of the files and of how they are decoded."""
    if digest not in _known:
        try:
            record = read_record(cache_folder() / "unusable-images" / f"{digest}.json", UnusableImages)
        except EtsdmError:
            return None
        if record is None:
            return None
        _known[digest] = record.images
    return _known[digest]


def keep(digest: str, images: dict[str, str]) -> None:
    """Keeps a list. Args: digest: as for `recall`; images: messages by name."""
    _known[digest] = images
    try:
        folder = cache_folder() / "unusable-images"
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / f"{digest}.json", UnusableImages(images=images))
    except (EtsdmError, OSError):
        pass  # without a cache folder, the next process decodes the images again
