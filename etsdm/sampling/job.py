"""Sampling jobs: they generate the images that a store does not hold yet.

The images are cut into blocks of `batch_size` consecutive indices, and block j belongs to the process of rank j mod world. A block is
generated as a whole unless all of it is stored, so batches, and with them the last bit of every image, depend neither on kills nor
on the number of processes; of a block that is stored in part only the missing images are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.samplers import Sampler, Step
from etsdm.sampling.conditions import Conditions
from etsdm.sampling.generate import trajectory_of
from etsdm.sampling.stores import Store

__all__ = ["Progress", "SamplingTask", "check_rank", "generate_missing"]


class SamplingTask(NamedTuple):
    """Everything that image k is a function of, besides k.

    Fields: denoiser, in eval mode; sampler; seed; conditions, conditioning inputs of samples by index, such as `Conditions`; chunk,
    images that a first stage decodes at a time, None for a whole batch; start, the time to start from, None for the schedule's last;
    protocol, JSON values that identify all of this in files, see `SampledModel.task`.
    """

    denoiser: DenoiserLike
    sampler: Sampler
    seed: int
    conditions: Callable[[Sequence[int]], dict[str, Tensor]] = Conditions()
    chunk: int | None = None
    start: float | None = None
    protocol: Mapping[str, Any] = MappingProxyType({})

    def steps(self, indices: Sequence[int]) -> Iterator[Step]:
        """The steps of one batch."""
        return trajectory_of(self.denoiser, self.sampler, indices, seed=self.seed, start=self.start, **self.conditions(indices))

    def decode(self, x: Tensor) -> Tensor:
        """The images of denoised x, float32 on the CPU, in [-1, 1]."""
        return self.denoiser.decode(x, self.chunk).float().cpu()


class Progress(NamedTuple):
    """Fields: done, stored images of this process, those of the batch in progress counted by their steps; total, all of its images."""

    done: int
    total: int


def check_rank(rank: int, world: int) -> None:
    """Raises PartError unless 0 <= rank < world."""
    if not 0 <= rank < world:
        raise PartError("rank", f"{rank} is no rank among {world} processes; give 0 to {world - 1}")


def generate_missing(task: SamplingTask, store: Store, *, n: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Progress]:
    """Generates this process's share of images 0 to n - 1, without those that are stored.

    Args:
        task: denoiser, sampler, seed and conditioning inputs.
        store: receives the images.
        n: number of images of all processes together.
        batch_size: images in one pass of the network.
        rank: number of this process, from 0.
        world: number of processes.

    Yields:
        Progress, first of the stored images, then after every step.

    Raises:
        PartError: the rank is not below `world`.
    """
    check_rank(rank, world)
    blocks = [range(begin, min(begin + batch_size, n)) for begin in range(0, n, batch_size)][rank::world]
    missing = [store.missing(block) for block in blocks]
    total = sum(map(len, blocks))
    done = total - sum(map(len, missing))
    yield Progress(done, total)
    for block, wanted in zip(blocks, missing, strict=True):
        if not wanted:
            continue
        for step in task.steps(block):
            if step.i < step.n:
                yield Progress(done + len(wanted) * step.i // step.n, total)
        rows = [k - block.start for k in wanted]
        store.write(wanted, task.decode(step.x)[rows])
        done += len(wanted)
        yield Progress(done, total)
