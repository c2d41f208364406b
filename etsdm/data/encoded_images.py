"""`EncodedImages`: images that are decoded as they are read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from etsdm.data.augmentation import Draws
from etsdm.data.images import Images, LoadedImages

__all__ = ["Decoder", "EncodedImages", "map_in_threads"]

CHUNK = 8  # images that a thread decodes at a time

S = TypeVar("S")
T = TypeVar("T")


class Decoder(Protocol):
    """The side of an `EncodedDataset` that its images need."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""

    def read(self, name: str) -> bytes:
        """Reads one encoded image."""

    def decode(self, name: str, crop: Sequence[float] | None = None) -> Tensor:
        """Reads and decodes one image, uint8, `shape`."""

    def decoding_text(self) -> str:
        """Settings of the decoding as a text, for digests."""


class EncodedImages(Images):
    """Encoded images of one split, decoded in as many threads as torch uses.

    Args:
        dataset: reads and decodes them.
        names: names in the data set, (N,).
        labels: class labels, int64, (N,).
    """

    def __init__(self, dataset: Decoder, names: Sequence[str], labels: Tensor) -> None:
        self.dataset = dataset
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        pixels = torch.empty(len(chosen), *self.dataset.shape, dtype=torch.uint8)
        crops = [None] * len(chosen) if draws is None or draws.crops is None else draws.crops.tolist()
        # numpy copies channels that lie between each other twice as fast as torch.
        for row, index, crop in zip(pixels.numpy(), chosen.tolist(), crops, strict=True):
            row[:] = self.dataset.decode(self.names[index], crop).numpy()
        return (pixels if draws is None else draws.flipped(pixels)), self.labels[chosen]

    def batch(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> LoadedImages:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        if torch.get_num_threads() == 1 or len(chosen) <= CHUNK:
            return self.loaded(*self.read(chosen, draws))
        rows = [slice(start, start + CHUNK) for start in range(0, len(chosen), CHUNK)]
        parts = map_in_threads(lambda each: self.read(chosen[each], None if draws is None else draws.rows(each)), rows)
        stored, labels = zip(*parts, strict=True)
        return self.loaded(torch.cat(stored), torch.cat(labels))

    def class_labels(self) -> Tensor:
        return self.labels

    def digest(self) -> str:
        """sha256 of shape and decoding, and of names, labels and contents of the images; the first call reads all of them."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(self.dataset.decoding_text().encode())
        for name, label, content in zip(self.names, self.labels.tolist(), map_in_threads(self._sha256, self.names), strict=True):
            digest.update(os.fsencode(f"\n{content} {label} {name}"))
        return digest.hexdigest()

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(self.dataset.read(name)).hexdigest()


def map_in_threads(function: Callable[[S], T], names: Iterable[S]) -> Iterator[T]:
    """Results in the order of the names; without a pool where torch has one thread, as in the workers of a DataLoader."""
    threads = torch.get_num_threads()
    return map(function, names) if threads == 1 else _pool(os.getpid(), threads).map(function, names)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    # One for each process: a forked one inherits the pool but not its threads, and would wait for them forever.
    return ThreadPoolExecutor(threads)
