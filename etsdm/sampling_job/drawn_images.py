"""Drawn images, in the form that images of a data set have: a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from etsdm.data import Images, LoadedImages
from etsdm.sampling_job.tensors import TensorStore

__all__ = ["DrawnImages"]


class DrawnImages(Images):
    """Images 0 to n - 1 of a store, read when they are asked for.

    Args:
        store: where they are.
        n: how many.
        labels: the classes that images of some indices were drawn for, int64, (len(indices),).
        device: where batches come.
    """

    def __init__(self, store: TensorStore, n: int, labels: Callable[[Tensor], Tensor], device: torch.device | str = "cpu") -> None:
        self._store = store
        self._n = n
        self._labels = labels
        self._device = device

    def __len__(self) -> int:
        return self._n

    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        """Some of them, float32 in [-1, 1]. Raises: IntegrityError if one is not there."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        return LoadedImages(self._store.read(chosen), self._labels(chosen)).to(self._device)

    def digest(self) -> str:
        """Of all that they depend on."""
        return self._store.digest

    def to(self, device: torch.device | str) -> DrawnImages:
        return DrawnImages(self._store, self._n, self._labels, device)
