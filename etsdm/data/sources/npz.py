"""Images and labels as arrays in a file of numpy, as guided-diffusion writes samples and reference sets."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import ClassVar, Literal
from zipfile import ZIP_STORED

import numpy as np
import torch

from etsdm.data.arrays import MappedImages
from etsdm.data.dataset import Files
from etsdm.data.images import Images, LoadedImages
from etsdm.data.labels import Labels, labels_of, with_classes
from etsdm.data.npy import ArrayHeader, array_header
from etsdm.data.opened import OpenedOnce, state_of
from etsdm.data.split import Split
from etsdm.data.stored import SplitDataset
from etsdm.data.zip_members import ZipMembers, zip_members
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.registry.counts import Classes, ImageSize
from etsdm.storage.faults import storage_errors

__all__ = ["ImageArrays"]

IMAGES, LABELS = "arr_0.npy", "arr_1.npy"
MAX_COMPRESSED = 2**34  # bytes of images that are unpacked into memory
MAX_BYTES = 2**46  # of a file in the archive

opened: OpenedOnce[Path, ZipMembers] = OpenedOnce(
    lambda path: zip_members(path, lambda name: name in (IMAGES, LABELS), MAX_BYTES), state_of
)


@datasets.register("npz")
class ImageArrays(SplitDataset):
    """8-bit images `arr_0`, (N, H, W, C), and class labels `arr_1`, (N,), of an `.npz` file, the layout of guided-diffusion.

    An uncompressed file is mapped, so that only images that are read are in memory; a compressed one is unpacked into memory as 8-bit
    levels. Arrays of Python objects, which are pickles, are refused.

    Attributes:
        image_size: side of the images in pixels.
        channels: 3 for RGB, 1 for grey.
        classes: number of classes; `auto` for as many as there are, None for no labels.
    """

    container: ClassVar[str] = "npz file"

    image_size: ImageSize
    channels: Literal[1, 3] = 3
    classes: Classes | Literal["auto"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, image_size, image_size)."""
        return self.channels, self.image_size, self.image_size

    @property
    def num_classes(self) -> int:
        """`classes`, or 1 without labels. Raises: DataError if they are to be counted and the file is missing."""
        return self._labels(self._images().shape[0]).classes if self.classes == "auto" else self.classes or 1

    @property
    def _expected(self) -> str:
        number = "N" if self.count is None else str(self.count)
        labels = "" if self.classes is None else f", and arr_1 of labels, ({number},)"
        return f"arr_0 of uint8, ({number}, {self.image_size}, {self.image_size}, {self.channels}){labels}"

    def check(self) -> None:
        n = self._images().shape[0]
        self._labels(n)
        self._rows(n, "train")

    @storage_errors()
    def open(self, split: Split) -> Images:
        """Opens one split, mapped or in memory. Raises: DataError as `check`."""
        header = self._images()
        n, height, width, channels = header.shape
        rows = self._rows(n, split)
        labels, members = self._labels(n).numbers[rows], opened(self.root)
        if members.member(IMAGES).method == ZIP_STORED:
            return MappedImages(self.root, members.start(IMAGES) + header.size, (n, height, width, channels), rows, labels)
        levels = np.frombuffer(members.read(IMAGES), np.uint8, offset=header.size).reshape(header.shape)
        return LoadedImages(torch.from_numpy(levels[rows.numpy()]).permute(0, 3, 1, 2).contiguous(), labels)

    @storage_errors()
    def files(self) -> Files:
        """The file, and sha256 of the sizes and checksums of its arrays."""
        members = opened(self.root) if self.root.is_file() else None
        return Files(self.path, members.fingerprint if members and members.holds(IMAGES) else None)

    @storage_errors()
    def _images(self) -> ArrayHeader:
        """Description of the images. Raises: DataError if they are missing, or not as declared."""
        if not self.root.is_file():
            raise self.missing("is no file")
        header = self._header(IMAGES)
        if header is None:
            raise self.missing("has no arr_0")
        if header.dtype != np.uint8 or header.shape[1:] != (self.image_size, self.image_size, self.channels):
            raise self.missing(f"has arr_0 of {header.dtype}, {header.shape}")
        if opened(self.root).member(IMAGES).method != ZIP_STORED and prod(header.shape) > MAX_COMPRESSED:
            raise DataError(f"{self.root}: would unpack to {prod(header.shape):,} bytes; write it uncompressed, with numpy.savez")
        self._check_count(header.shape[0])
        return header

    def _labels(self, n: int) -> Labels:
        """Class labels of all n images."""
        if self.classes is None:
            return Labels(torch.zeros(n, dtype=torch.long))
        header = self._header(LABELS)
        if header is None:
            raise DataError(f"{self.root}: has no arr_1, the labels; write them too, or set data.classes=null for no labels")
        if header.shape != (n,) or header.dtype.kind not in "iu":
            found = f"arr_1 of {header.dtype}, {header.shape}"
            raise DataError(
                f"{self.root}: has {found}, not a whole number for each of {n} images; write them anew, or set data.classes=null"
            )
        values = np.frombuffer(opened(self.root).read(LABELS), header.dtype, offset=header.size)
        found_labels = labels_of(values.tolist(), f"{self.root}/arr_1")
        return found_labels if self.classes == "auto" else with_classes(found_labels, self.classes, str(self.root))

    def _header(self, name: str) -> ArrayHeader | None:
        """Header of an array, None if there is none."""
        members = opened(self.root)
        return array_header(members, name) if members.holds(name) else None
