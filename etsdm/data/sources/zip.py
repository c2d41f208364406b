"""Images in a zip archive, which is read as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, ClassVar

import torch

from etsdm.data.dataset import Files
from etsdm.data.encoded import EncodedDataset
from etsdm.data.labels import LABEL_FILE, Labels, named_labels, parse_json_labels
from etsdm.data.listing import is_image
from etsdm.data.names import PackedNames
from etsdm.data.opened import OpenedOnce, state_of
from etsdm.data.zip_members import ZipMembers, zip_members
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.storage.faults import storage_errors

__all__ = ["ImageZip"]


def _open(path: Path) -> ZipMembers:
    return zip_members(path, lambda name: is_image(name) or name == LABEL_FILE)


opened = OpenedOnce(_open, state_of)


@datasets.register("zip")
class ImageZip(EncodedDataset):
    """PNG, JPEG and WebP images in a zip archive, stored or deflated, which nothing unpacks to the disk.

    The archive has the layout of StyleGAN2-ADA and EDM, with labels in `dataset.json`, or of an image folder. Images are ordered by their
    names. Names with a part that begins with a dot are skipped. Other fields are those of `EncodedDataset`.
    """

    container: ClassVar[str] = "zip archive"

    @storage_errors()
    def names(self) -> Sequence[str]:
        """Names in the archive. Raises: DataError if there is no archive, it is damaged, or has no image."""
        if not self.root.is_file():
            raise self.missing("is no file")
        names = _images(opened(self.root))
        if not names:
            raise self.missing("holds no images")
        return names

    def read(self, name: str) -> bytes:
        return opened.last(self.root).read(name)

    def stream(self, name: str) -> IO[bytes]:
        return opened.last(self.root).stream(name) or super().stream(name)

    def own_labels(self, names: Sequence[str]) -> Labels | None:
        """Those of `dataset.json`; None without one. Raises: DataError if it does not label these images."""
        members, place = opened(self.root), self.location(LABEL_FILE)
        if not members.holds(LABEL_FILE):
            return None
        given = parse_json_labels(members.read(LABEL_FILE), place)
        if given is None:
            raise DataError(f"{place}: has no labels; set data.classes=null for none, or give a file of them with data.labels")
        return named_labels(names, given, place, self.location)

    @storage_errors()
    def files(self) -> Files:
        """The archive, and sha256 of the names, sizes and checksums in it."""
        members = opened(self.root) if self.root.is_file() else None
        return self._files(members.fingerprint if members and _images(members) else None)


def _images(members: ZipMembers) -> PackedNames:
    """Names of all files but that of the labels."""
    if not members.holds(LABEL_FILE):
        return members.names
    rows = torch.arange(len(members.names))
    return members.names.take(rows[rows != members.names.find(LABEL_FILE)])
