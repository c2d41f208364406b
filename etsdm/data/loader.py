"""Training batches in the order of a seed, decoded ahead of the training step.

Threads decode: Pillow leaves the interpreter to others while it does, images and errors need no copy between processes, and on two cores
they gave 1.1 times the images per second of the worker processes of torch's DataLoader (`benchmarks/data.py`).
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.data.augmentation import Augmentation, Draws
from etsdm.data.images import Images, LoadedImages

__all__ = ["TrainingLoader"]

UNCHANGED = Augmentation()
AHEAD = 2  # batches that are read before they are needed
CHUNK = 8  # images that a thread reads at a time


class _Batch(NamedTuple):
    """A batch that is being read. Fields: images seen before and after it; its images and labels in chunks."""

    images_seen: int
    end: int
    chunks: list[Future[tuple[Tensor, Tensor]]]


class TrainingLoader:
    """Batches of training images, each a function of the seed and of the images seen before it.

    Args:
        images: the training split, on the device of the training.
        seed: the run's seed.
        batch_size: images of a batch, over all processes.
        end: images of the whole training; the last batch may be smaller.
        augmentation: random changes.
        workers: threads that read ahead; 0 to read a batch when it is needed, as images in memory always are.
        rank: number of this process, which reads its part of each batch.
        world_size: number of processes.

    Attributes:
        waited: seconds that calls of `batch` took so far, which is what a training waits for its images.
    """

    def __init__(
        self,
        images: Images,
        seed: int,
        *,
        batch_size: int,
        end: int,
        augmentation: Augmentation = UNCHANGED,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.waited = 0.0
        self.images = images
        self.seed = seed
        self.batch_size = batch_size
        self.end = end
        self.augmentation = augmentation
        self.rank = rank
        self.world_size = world_size
        self._order = images.order(seed)
        self._pool = ThreadPoolExecutor(workers, "etsdm-data") if workers and not images.in_memory else None
        self._ahead: deque[_Batch] = deque()
        if self._pool is not None:
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    def batch(self, images_seen: int) -> LoadedImages:
        """The batch after the first `images_seen` images, of which this process has the rows rank, rank + world_size, ...

        Raises:
            DataError: an image cannot be read.
        """
        start = time.perf_counter()
        try:
            return self._next(images_seen)
        finally:
            self.waited += time.perf_counter() - start

    def _next(self, images_seen: int) -> LoadedImages:
        if self._pool is None:
            return self.images.batch(*self._request(images_seen))
        if not self._ahead or self._ahead[0].images_seen != images_seen:
            self._restart(images_seen, self._pool)
        batch = self._ahead.popleft()
        while len(self._ahead) < AHEAD and (start := (self._ahead or [batch])[-1].end) < self.end:
            self._ahead.append(self._submit(start, self._pool))
        stored, labels = zip(*(chunk.result() for chunk in batch.chunks), strict=True)
        pixels = torch.cat(stored)
        return self.images.loaded(pixels.pin_memory() if self.images.device.type == "cuda" else pixels, torch.cat(labels))

    def _restart(self, images_seen: int, pool: ThreadPoolExecutor) -> None:
        """Reads ahead from another place, as after a resumption."""
        for batch in self._ahead:
            for chunk in batch.chunks:
                chunk.cancel()
        self._ahead.clear()
        self._ahead.append(self._submit(images_seen, pool))

    def _submit(self, images_seen: int, pool: ThreadPoolExecutor) -> _Batch:
        indices, draws = self._request(images_seen)
        rows = [slice(start, start + CHUNK) for start in range(0, max(1, indices.shape[0]), CHUNK)]
        chunks = [pool.submit(self.images.read, indices[each], None if draws is None else draws.rows(each)) for each in rows]
        return _Batch(images_seen, self._end(images_seen), chunks)

    def _request(self, images_seen: int) -> tuple[Tensor, Draws | None]:
        """Indices and random changes of this process's rows of a batch."""
        count = self._end(images_seen) - images_seen
        rows = slice(self.rank, None, self.world_size)
        draws = self.augmentation.draw(self.seed, images_seen, count)
        return self._order.indices(images_seen, count)[rows], None if draws is None else draws.rows(rows)

    def _end(self, images_seen: int) -> int:
        """Images seen after the batch that follows so many."""
        return min(images_seen + self.batch_size, self.end)
