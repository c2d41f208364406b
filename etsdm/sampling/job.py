"""Drawing what a store does not have yet.

The images are cut into blocks of `batch_size` in a row, and block j is for the process of rank j mod world. A block is drawn as a
whole unless all of it is there, so that what is in a batch, and with it the last bit of every image, does not depend on kills or on
the number of processes; of a block that is there in part only what is missing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike
from etsdm.samplers import Sampler, Step
from etsdm.sampling.generate import trajectory_of

__all__ = ["Progress", "SamplingTask", "Store", "generate_missing"]


class SamplingTask(NamedTuple):
    """What is drawn. Image k is a function of this and of k.

    Fields: denoiser, in eval mode; sampler; seed; cond, what the network takes besides for samples of some indices, a row for each;
    chunk, images that a first stage decodes at a time, None for a whole batch; start, the time to start from, None for the last.
    """

    denoiser: DenoiserLike
    sampler: Sampler
    seed: int
    cond: Callable[[Sequence[int]], dict[str, Tensor]] = lambda indices: {}
    chunk: int | None = None
    start: float | None = None

    def steps(self, indices: Sequence[int]) -> Iterator[Step]:
        """The steps of one batch."""
        return trajectory_of(self.denoiser, self.sampler, indices, seed=self.seed, start=self.start, **self.cond(indices))

    def images(self, x: Tensor) -> Tensor:
        """The images of what was denoised, float32 on the CPU, in [-1, 1]."""
        return self.denoiser.decode(x, self.chunk).float().cpu()


class Store(Protocol):
    """Where images are put, one by one or several at once, each of them whole or not at all."""

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not there."""

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Puts images there. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""


class Progress(NamedTuple):
    """Fields: done, images of this process that are there, those under way counted by their steps; total, all of its images."""

    done: int
    total: int


def generate_missing(drawing: SamplingTask, store: Store, *, n: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Progress]:
    """Draws this process's share of images 0 to n - 1, but for what is there.

    Args:
        drawing: what is drawn.
        store: where it goes.
        n: how many images all processes draw together.
        batch_size: images in one pass of the network.
        rank: which process this is, from 0.
        world: how many there are.

    Yields:
        Progress, first of what was found, then after every step.
    """
    blocks = [range(begin, min(begin + batch_size, n)) for begin in range(0, n, batch_size)][rank::world]
    missing = [store.missing(block) for block in blocks]
    total = sum(map(len, blocks))
    done = total - sum(map(len, missing))
    yield Progress(done, total)
    for block, wanted in zip(blocks, missing, strict=True):
        if not wanted:
            continue
        for step in drawing.steps(block):
            if step.i < step.n:
                yield Progress(done + len(wanted) * step.i // step.n, total)
        rows = [k - block.start for k in wanted]
        store.write(wanted, drawing.images(step.x)[rows])
        done += len(wanted)
        yield Progress(done, total)
