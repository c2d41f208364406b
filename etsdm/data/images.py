"""`Images`: images and labels with random access by batches, in memory or read as they are needed."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from etsdm.data.augmentation import Draws
from etsdm.data.order import SampleOrder
from etsdm.errors import DataError

__all__ = ["Images", "LoadedImages", "to_signal"]

LEVELS = 127.5  # half of the highest level of 8 bits


class Images(ABC):
    """Images and labels of one split, with random access by batches.

    A kind of images is a subclass with `__len__`, `read` and `digest`. Images are kept as they are stored, uint8 levels or float32 values,
    until they are on the device. All methods may be called from several threads at once.

    Attributes:
        device: of the batches.
        in_memory: whether reading costs no decoding and no access to a disk.
        encoded: whether they are what a first stage made of images, `FirstStage.moments_shape`.
        are_pictures: whether values lie in [-1, 1].
    """

    device: torch.device = torch.device("cpu")
    in_memory: bool = False
    encoded: bool = False
    are_pictures: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """Reads the images of some indices as they are stored.

        Args:
            indices: from 0 to the number of images - 1, in any order and as often as they stand there.
            draws: random changes, a row for each index; None for none.

        Returns:
            Images, uint8 levels or float32 values, (N, C, H, W), and class labels, int64, (N,); both on the CPU unless `in_memory`.

        Raises:
            DataError: an image cannot be read.
        """

    @abstractmethod
    def digest(self) -> str:
        """sha256 over everything that determines pixels and labels; identifies a reference set."""

    def to(self, device: torch.device | str) -> Images:
        """The same images with batches on another device."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, device=torch.device(device))
        return other

    def batch(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> LoadedImages:
        """Images of some indices in float32. Args and raises: as `read`. Returns: images in the order of `indices`, on `device`."""
        return self.loaded(*self.read(indices, draws))

    def loaded(self, stored: Tensor, labels: Tensor) -> LoadedImages:
        """Converts stored images to float32 on `device`. Args: as `read` returns them."""
        return LoadedImages(to_signal(stored.to(self.device, non_blocking=True)), labels.to(self.device, non_blocking=True))

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

    def order(self, seed: int) -> SampleOrder:
        """The order in which a training of a seed sees the images."""
        return SampleOrder(len(self), seed)

    def _number(self) -> int:
        if not len(self):
            raise DataError("data.held_out: no image is held out, but one or more are needed here; hold out one or more")
        return len(self)


class LoadedImages(Images):
    """Images and labels in memory.

    Args:
        pixels: float32 in [-1, 1], or uint8 levels, which take a quarter of the memory and become float32 in a batch; (N, C, H, W).
        labels: class labels, int64, (N,).
    """

    in_memory = True

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels = pixels
        self.labels = labels
        self.device = pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        pixels = self.pixels[chosen]
        return (pixels if draws is None else draws.flipped(pixels)), self.labels[chosen]

    def class_labels(self) -> Tensor:
        return self.labels

    def to(self, device: torch.device | str) -> LoadedImages:
        moved = super().to(device)
        assert isinstance(moved, LoadedImages)
        moved.pixels, moved.labels = self.pixels.to(device), self.labels.to(device)
        moved.device = moved.pixels.device
        return moved

    def digest(self) -> str:
        """sha256 of pixels and labels."""
        content = hashlib.sha256()
        for tensor in (self.pixels, self.labels):
            content.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            content.update(tensor.contiguous().cpu().numpy().tobytes())
        return content.hexdigest()


def to_signal(stored: Tensor) -> Tensor:
    """Levels of 8 bits as float32 in [-1, 1], level / 127.5 - 1; values of other types as they are.

    The same bits on all devices: the divisor is a tensor, as a division by a number may be a multiplication by its rounded inverse.
    """
    if stored.dtype != torch.uint8:
        return stored
    return stored.float().div_(torch.full((1,), LEVELS, device=stored.device)).sub_(1)
