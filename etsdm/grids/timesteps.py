"""Grids of timesteps: `auto`, `leading`, `trailing`, `respaced`."""

from __future__ import annotations

from abc import abstractmethod
from itertools import accumulate, repeat

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.grids.base import VISIBLE_SIGNAL, Grid, level_distance, refuse_outside, timesteps_until
from etsdm.registry import grids
from etsdm.schedules import Schedule

__all__ = ["Auto", "Leading", "Respaced", "TimestepGrid", "Trailing"]


class TimestepGrid(Grid):
    """A grid of timesteps, ending in the clean image.

    The timesteps of a continuous schedule are `step`, 2 `step`, ..., its last time, a thousand of them.
    """

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """Selects n of the timesteps up to the last, or up to `start`; see `Grid.times`."""
        if end is not None:
            raise PartError("t_end", f"grid {self.type_name!r} ends in the clean image, not at {end:g}; leave t_end out, or give linspace")
        refuse_outside(schedule, start=start)
        total = timesteps_until(schedule, start)
        if not total:
            raise PartError("start", f"{start:g} lies before the first timestep, {schedule.step:g}; give {schedule.step:g} or more")
        if not 1 <= n <= total:
            given = f"a schedule of {total} timesteps" if start is None else f"the {total} timesteps up to {start:g}"
            raise PartError("steps", f"{n} steps do not fit {given}; give 1 to {total}")
        first = 0 if schedule.is_discrete else 1
        return (self._indices(total, n).to(torch.float64) + first).mul(schedule.step).clamp(max=schedule.domain[1]).flip(0)

    @abstractmethod
    def _indices(self, total: int, n: int) -> Tensor:
        """n increasing indices among 0..total-1."""


@grids.register("leading")
class Leading(TimestepGrid):
    """Multiples of T // n from 0 on, the grid of DDIM's code; leaves out the noisiest timesteps unless n = T."""

    def _indices(self, total: int, n: int) -> Tensor:
        return torch.arange(n) * (total // n)


@grids.register("trailing")
class Trailing(TimestepGrid):
    """Every (T/n)-th timestep counted from the end, so that sampling starts at T-1 (Lin et al. 2024)."""

    def _indices(self, total: int, n: int) -> Tensor:
        return (torch.arange(1, n + 1, dtype=torch.float64) * total / n).round().long() - 1


@grids.register("respaced")
class Respaced(TimestepGrid):
    """Equally spaced timesteps from 0 to T-1, rounded, as in guided-diffusion's respacing; a single one is T-1, where that takes 0."""

    def _indices(self, total: int, n: int) -> Tensor:
        if n == 1:
            return torch.tensor([total - 1])
        stride = (total - 1) / (n - 1)
        # Accumulated and not multiplied, as in the original: its rounding errors decide how halves are rounded.
        return torch.tensor([round(index) for index in accumulate(repeat(stride, n - 1), initial=0.0)])


@grids.register("auto")
class Auto(Leading):
    """`leading` where its first time is as good as the start, as of 50 steps of `linear`; else `trailing`, which begins at the start.

    It is as good where alpha and sigma, over sqrt(alpha^2 + sigma^2), differ by 0.05 at most, and never where alpha = 0 at the start: a
    network that was trained there, as on zero terminal SNR, is then called there.
    """

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """Selects n of the timesteps up to the last, or up to `start`; see `Grid.times`."""
        leading = super().times(schedule, n, start=start, end=end)
        first = schedule.domain[1] if start is None else start
        if schedule.alpha(first) > 0 and level_distance(schedule, leading[0].item(), first) <= VISIBLE_SIGNAL:
            return leading
        return Trailing().times(schedule, n, start=start)
