"""Grids of timesteps: `leading`, `trailing`, `respaced`."""

from __future__ import annotations

from abc import abstractmethod
from itertools import accumulate, repeat

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.grids.base import Grid, refuse_outside, timesteps_until
from etsdm.registry import grids
from etsdm.schedules import Schedule

__all__ = ["Leading", "Respaced", "TimestepGrid", "Trailing"]


class TimestepGrid(Grid):
    """A grid of timesteps, which ends in the clean image.

    They are a discrete schedule's own; a continuous one is cut into a thousand, at its `step`, 2 `step`, ..., its last time.
    """

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """n of the timesteps from the first to the last, or to `start`; see `Grid.times`."""
        if end is not None:
            raise PartError("t_end", f"grid {self.type_name!r} ends in the clean image, not at {end:g}; leave t_end out, or give linspace")
        refuse_outside(schedule, start=start)
        total = timesteps_until(schedule, start)
        if not total:
            raise PartError("start", f"{start:g} lies before the first timestep, {schedule.step:g}; give {schedule.step:g} or more")
        if not 1 <= n <= total:
            what = f"a schedule of {total} timesteps" if start is None else f"the {total} timesteps up to {start:g}"
            raise PartError("steps", f"{n} steps do not fit {what}; give 1 to {total}")
        first = 0 if schedule.is_discrete else 1
        return (self._indices(total, n).to(torch.float64) + first).mul(schedule.step).clamp(max=schedule.domain[1]).flip(0)

    @abstractmethod
    def _indices(self, total: int, n: int) -> Tensor:
        """n increasing indices among 0..total-1."""


@grids.register("leading")
class Leading(TimestepGrid):
    """Multiples of T // n from 0 on, the grid of DDIM's code; it never sees the noisiest timesteps unless n = T."""

    def _indices(self, total: int, n: int) -> Tensor:
        return torch.arange(n) * (total // n)


@grids.register("trailing")
class Trailing(TimestepGrid):
    """Every T/n-th timestep counted from the end, so that sampling starts at T-1 (Lin et al. 2024)."""

    def _indices(self, total: int, n: int) -> Tensor:
        return (torch.arange(1, n + 1, dtype=torch.float64) * total / n).round().long() - 1


@grids.register("respaced")
class Respaced(TimestepGrid):
    """n timesteps from 0 to T-1 at equal distances, rounded, as in guided-diffusion's respacing."""

    def _indices(self, total: int, n: int) -> Tensor:
        stride = (total - 1) / (n - 1) if n > 1 else 0.0
        # Added up and not multiplied, as the original does: the roundings decide which way a half goes.
        return torch.tensor([round(index) for index in accumulate(repeat(stride, n - 1), initial=0.0)])
