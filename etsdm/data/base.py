"""Image data sets: what they hold, split by split."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from etsdm.errors import DataError
from etsdm.registry import Part, datasets

__all__ = ["Dataset", "Files", "Images", "LoadedImages", "Split"]

Split = Literal["train", "test"]


class Images(ABC):
    """Images and labels, of one split or drawn, which need not be in memory: they come a batch at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        """Some of them.

        Args:
            indices: which, in any order, each from 0 to the number of images - 1.

        Returns:
            In the order of `indices`, on the device that `to` named.

        Raises:
            DataError: one of them cannot be read.
        """

    @abstractmethod
    def digest(self) -> str:
        """sha256 of all that decides pixels and labels, the identity of a reference set."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Images:
        """The same images, whose batches come on a device."""

    def batches(self, batch_size: int) -> Iterator[tuple[range, LoadedImages]]:
        """All of them in order, at most `batch_size` at a time, with their indices. Raises: DataError if there are none."""
        n = self._some()
        for start in range(0, n, batch_size):
            indices = range(start, min(start + batch_size, n))
            yield indices, self.batch(indices)

    def load(self) -> LoadedImages:
        """All of them in memory. Raises: DataError if there are none."""
        return self.batch(range(self._some()))

    def _some(self) -> int:
        if not len(self):
            raise DataError("data.held_out: no image is held out, and what is measured needs some; hold out one or more")
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

    def digest(self) -> str:
        """sha256 of the pixels and labels."""
        content = hashlib.sha256()
        for tensor in (self.pixels, self.labels):
            content.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()

    def to(self, device: torch.device | str) -> LoadedImages:
        """The same images on a device."""
        return LoadedImages(self.pixels.to(device), self.labels.to(device))


class Files(NamedTuple):
    """Files that something is read from. Fields: place, as a recipe names it; content, a digest, None where there are none."""

    place: str | None
    content: str | None


class Dataset(Part, family=datasets):
    """A source of images of one shape, with a split for training and one held out.

    Attributes:
        descriptive: names of the fields that change no image, where the files are the same.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """How many labels there are."""

    @property
    def holds_out(self) -> bool:
        """Whether the test split has images."""
        return True

    def check(self) -> None:
        """Looks whether the data is there, without reading an image.

        Raises:
            DataError: it is not, or is not what was declared; the message says how to get it and where to put it.
        """

    def files(self) -> Files | None:
        """The files that hold the images, told apart at a cost that every command can bear; None where the fields say all."""
        return None

    def identity(self) -> dict[str, Any]:
        """The fields that select images of the files and say how they are read: the dump without `descriptive` fields."""
        return {field: value for field, value in self.model_dump(mode="json").items() if field not in self.descriptive}

    @abstractmethod
    def open(self, split: Split) -> Images:
        """One split. Raises: DataError if it is not there or is not what was declared."""
