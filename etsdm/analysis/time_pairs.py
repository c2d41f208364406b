"""Where a curve is measured: times t, each with a neighbour t' = t + dt.

Discrete schedules are measured between timesteps; index i of them stands for t = (i + 1) / T of their continuous limit, so a
step of a continuous schedule is 1/1000 of its horizon here, and its times begin one step after 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.schedules import Schedule

__all__ = ["TimePairs", "timesteps"]

FIRST = 200  # steps that are measured where nothing else is said
ROUNDING = 1e-12  # of the horizon; times that are so near to each other are meant to be one


def timesteps(schedule: Schedule, indices: Iterable[int] | None = None) -> list[float]:
    """Times of timesteps in the schedule's unit, i itself or (i + 1) / 1000 of the horizon.

    Args:
        schedule: whose times they are.
        indices: 0-based; all that have a next one by default.
    """
    if schedule.is_discrete:
        return [float(i) for i in (range(int(schedule.horizon) - 1) if indices is None else indices)]
    return [(i + 1) / 1000 * schedule.horizon for i in (range(999) if indices is None else indices)]


class TimePairs(NamedTuple):
    """Pairs of times. Fields: t and neighbour, in the schedule's unit, float64, (M,); dt, their distance, 0 for derivatives."""

    t: Tensor
    neighbour: Tensor
    dt: float

    @classmethod
    def of(cls, schedule: Schedule, t: Iterable[float] | None = None, dt: float | None = None) -> Self:
        """Checks the times of a curve.

        Args:
            schedule: whose times they are.
            t: times, the first 200 timesteps by default, or all if there are fewer.
            dt: distance to the neighbour, one step by default; 0 where only t itself is looked at.

        Raises:
            PartError: there is no time, a time or its neighbour is outside the schedule's domain, or dt is negative.
        """
        times = torch.tensor([float(value) for value in (timesteps(schedule)[:FIRST] if t is None else t)], dtype=torch.float64)
        if not len(times):
            raise PartError("t", "no time is given; give one or more")
        distance = schedule.step if dt is None else dt
        if not 0 <= distance < schedule.horizon:
            message = f"{distance:g} is no distance inside the schedule's horizon"
            raise PartError("dt", f"{message}; give a value above 0 and below {schedule.horizon:g}")
        schedule.alpha_sigma(times)  # refuses times outside the domain
        low, high = schedule.domain
        neighbour = times + distance
        # The sum may miss by a rounding the next time, whose evaluation is then made twice, or the end of the domain.
        for meant in (times.roll(-1), torch.full_like(times, high)):
            neighbour = torch.where((neighbour - meant).abs() <= ROUNDING * schedule.horizon, meant, neighbour)
        if (worst := neighbour.max()) > high:
            found = f"{times.max():.12g} has its neighbour at {worst:.12g}, outside the times of schedule {schedule.type_name!r}"
            raise PartError("t", f"{found}; give t in [{low:g}, {high - distance:.12g}], or a smaller dt")
        return cls(times, neighbour, distance)
