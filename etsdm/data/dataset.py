"""Data sets of images and labels, split by split.

A `Dataset` is a part of a recipe; `open` gives the `Images` of one split, which have random access by batches of indices.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from etsdm.data.split import Split
from etsdm.errors import DataError
from etsdm.registry import Part, datasets

__all__ = ["Dataset", "Files", "Images", "LoadedImages"]


class Images(ABC):
    """Images and labels with random access by batches; they need not be in memory.

    Picklable, so that the workers of `torch.utils.data.DataLoader` can take them, with `batch` to collate lists of indices:

        DataLoader(range(len(images)), batch_sampler=lists_of_indices, collate_fn=images.batch, num_workers=4)
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        """Reads the images of some indices.

        Args:
            indices: from 0 to the number of images - 1, in any order and as often as they stand there.

        Returns:
            Images in the order of `indices`, on the device given to `to`.

        Raises:
            DataError: an image cannot be read.
        """

    @abstractmethod
    def digest(self) -> str:
        """sha256 over everything that determines pixels and labels; identifies a reference set."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Images:
        """The same images with batches on another device."""

    def batches(self, batch_size: int) -> Iterator[tuple[range, LoadedImages]]:
        """Iterates over all images in order, `batch_size` or fewer at a time, with their indices. Raises: DataError if there are none."""
        n = self._number()
        for start in range(0, n, batch_size):
            indices = range(start, min(start + batch_size, n))
            yield indices, self.batch(indices)

    def class_labels(self) -> Tensor:
        """Class labels of all images, int64, (N,); without reading the images where labels are known beside them."""
        return self.load().labels

    def load(self) -> LoadedImages:
        """Reads all images into memory. Raises: DataError if there are none."""
        return self.batch(range(self._number()))

    def _number(self) -> int:
        if not len(self):
            raise DataError("data.held_out: no image is held out, but one or more are needed here; hold out one or more")
        return len(self)


class LoadedImages(Images):
    """Images and labels in memory.

    Args:
        pixels: float32 in [-1, 1], (N, C, H, W).
        labels: class labels, int64, (N,).
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        return LoadedImages(self.pixels[chosen], self.labels[chosen])

    def class_labels(self) -> Tensor:
        return self.labels

    def digest(self) -> str:
        """sha256 of pixels and labels."""
        content = hashlib.sha256()
        for tensor in (self.pixels, self.labels):
            content.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()

    def to(self, device: torch.device | str) -> LoadedImages:
        return LoadedImages(self.pixels.to(device), self.labels.to(device))


class Files(NamedTuple):
    """Files that a recipe names. Fields: place, as written in the recipe; content, a digest, None if the files are missing."""

    place: str | None
    content: str | None


class Dataset(Part, family=datasets):
    """Images of one shape with a training and a test split.

    A new source is one subclass, registered in a module of `etsdm.data.sources`.

    Attributes:
        descriptive: names of the fields that change no image as long as the files are the same.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of class labels."""

    @property
    def holds_out(self) -> bool:
        """Whether the test split has images."""
        return True

    def check(self) -> None:
        """Checks that the images exist, without decoding one.

        Raises:
            DataError: they do not, or are not as declared; the message says how to get them and where to put them.
        """

    def check_files(self) -> Iterator[tuple[int, int]]:
        """Reads the headers of all images, before a training.

        Yields:
            The number of headers that were read, and of all.

        Raises:
            DataError: some are damaged, or of images that cannot be used; the message names them.
        """
        return iter(())

    def files(self) -> Files | None:
        """Files that hold the images, with a quick fingerprint as their content; None where the fields determine the images."""
        return None

    def identity(self) -> dict[str, Any]:
        """The fields that select images of the files and say how they are read: the dump without `descriptive` fields."""
        return {field: value for field, value in self.model_dump(mode="json").items() if field not in self.descriptive}

    @abstractmethod
    def open(self, split: Split) -> Images:
        """Opens one split. Raises: DataError as `check`."""
