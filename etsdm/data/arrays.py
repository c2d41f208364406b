"""Images as arrays of 8-bit levels, (N, H, W, C), in memory or mapped from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etsdm.data.augmentation import Draws
from etsdm.data.images import Images
from etsdm.errors import DataError

__all__ = ["MappedImages"]

ROWS_AT_A_TIME = 256


class MappedImages(Images):
    """Images of an uncompressed array in a file, of which only those that are read are in memory.

    Args:
        path: of the file.
        offset: of the array's first byte.
        array_shape: (N, H, W, C) of the array, uint8.
        rows: images of the array, int64, (M,).
        labels: class labels, int64, (M,).
    """

    def __init__(self, path: Path, offset: int, array_shape: tuple[int, int, int, int], rows: Tensor, labels: Tensor) -> None:
        self.path = path
        self.offset = offset
        self.array_shape = array_shape
        self.rows = rows
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        pixels = torch.from_numpy(self._array[self.rows[chosen].numpy()]).permute(0, 3, 1, 2).contiguous()
        return (pixels if draws is None else draws.flipped(pixels)), self.labels[chosen]

    def class_labels(self) -> Tensor:
        return self.labels

    def digest(self) -> str:
        """sha256 of pixels and labels, that of the same images in memory."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        _, height, width, channels = self.array_shape
        content = hashlib.sha256(f"{torch.uint8}{(len(self), channels, height, width)}".encode())
        for start in range(0, len(self), ROWS_AT_A_TIME):
            content.update(self.read(range(start, min(start + ROWS_AT_A_TIME, len(self))))[0].numpy().tobytes())
        content.update(f"{self.labels.dtype}{tuple(self.labels.shape)}".encode())
        content.update(self.labels.numpy().tobytes())
        return content.hexdigest()

    @cached_property
    def _array(self) -> NDArray[np.uint8]:
        try:
            return np.memmap(self.path, np.uint8, "r", self.offset, self.array_shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}); replace it, or start again if it has changed") from error

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be copied whole.
        return {name: value for name, value in self.__dict__.items() if name != "_array"}
