"""Image data sets: what they hold, split by split."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from etsdm.registry import Part, datasets

__all__ = ["Dataset", "Images", "Split"]

Split = Literal["train", "test"]


class Images:
    """Images and labels of one split, in memory.

    Args:
        pixels: float32 in [-1, 1], (N, C, H, W).
        labels: class labels, int64, (N,).
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.pixels)

    def digest(self) -> str:
        """sha256 of the pixels and labels, the identity of a reference set."""
        content = hashlib.sha256()
        for tensor in (self.pixels, self.labels):
            content.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()

    def to(self, device: torch.device | str) -> Images:
        """The same images on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))


class Dataset(Part, family=datasets):
    """A source of images of one shape, with a split for training and one held out."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """How many labels there are."""

    @abstractmethod
    def open(self, split: Split) -> Images:
        """Reads one split. Raises: DataError if it is not there or is not what was declared."""
