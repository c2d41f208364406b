"""Time grids: the times at which a sampler calls the network.

A grid is a decreasing sequence of n times in the schedule's unit. After the last one a sampler goes to the clean image,
alpha = 1 and sigma = 0.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import accumulate, repeat
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.registry import Part, field_error, grids
from etsdm.schedules import Schedule

__all__ = ["EvenIn", "Grid", "Leading", "Respaced", "TimestepGrid", "Trailing"]


class Grid(Part, family=grids):
    """Where to step."""

    @abstractmethod
    def times(self, schedule: Schedule, n: int) -> Tensor:
        """The times of the n network calls, decreasing.

        Args:
            schedule: whose times they are.
            n: number of steps, 1 or more; grids of timesteps take at most the schedule's T.

        Returns:
            float64, (n,).

        Raises:
            ValueError: n is out of range, or the grid does not suit the schedule.
        """


class TimestepGrid(Grid):
    """A grid of a discrete schedule's own timesteps."""

    def times(self, schedule: Schedule, n: int) -> Tensor:
        """n of the timesteps 0..T-1; see `Grid.times`."""
        if not schedule.is_discrete:
            place = f"grid {self.type_name!r} steps on timesteps, and schedule {schedule.type_name!r} is continuous"
            raise ValueError(f"{place}; give a grid of real times, such as uniform-in-f")
        total = int(schedule.horizon)
        if not 1 <= n <= total:
            raise ValueError(f"steps: {n} steps do not fit a schedule of {total} timesteps; give 1 to {total}")
        return self._indices(total, n).to(torch.float64).flip(0)

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


@grids.register("uniform-in-f")
class EvenIn(Grid):
    """Times at equal distances in a condition map, from the last time on (paper, appendix D.3.3).

    `map` is a remap, such as `inverse` or `log-snr`, or `identity`; times are real also on a discrete schedule. The grid ends at
    the schedule's first time, or where the map is clipped; a first time without noise is the step after the last.
    """

    map: ConditionMap

    @model_validator(mode="after")
    def _map_has_an_inverse(self) -> Self:
        if not self.map.is_invertible:
            message = f"{self.map.type_name!r} gives several times one condition, so that no time follows from it; give a remap"
            raise field_error("EvenIn", ("map",), message)
        return self

    def times(self, schedule: Schedule, n: int) -> Tensor:
        """n times for any n from 1 on; see `Grid.times`."""
        if n < 1:
            raise ValueError(f"steps: {n} is no number of steps; give 1 or more")
        first, last = self.map.ends(schedule)
        ends_clean = schedule.sigma(self.map.inverse(torch.tensor(first, dtype=torch.float64), schedule)) == 0
        gaps = n if ends_clean else max(n - 1, 1)
        times = self.map.inverse(last + (first - last) * torch.arange(n, dtype=torch.float64) / gaps, schedule)
        times = times.clamp(*schedule.domain)
        # Where the map is clipped its inverse stops short of the end.
        times[0] = schedule.domain[1]
        if not (times.diff() < 0).all():
            raise ValueError(f"steps: {n} times uniform in {self.map.type_name!r} are not all different; give fewer")
        return times
