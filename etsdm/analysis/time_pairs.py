"""Pairs of times t and t' = t + dt, between which a Lipschitz curve is estimated.

Index i of a discrete schedule stands for t = (i + 1) / T of its continuous limit. A step of a continuous schedule is 1/1000 of its
horizon here, and its times begin one step after 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.schedules import Schedule

__all__ = ["TimePairs", "timesteps"]

DEFAULT_STEPS = 200  # number of times of a curve by default
TIME_TOLERANCE = 1e-12  # of the horizon: times that differ by less are equal up to rounding


def timesteps(schedule: Schedule, indices: Iterable[int] | None = None) -> list[float]:
    """Converts timestep indices to times in the schedule's unit: i itself, or (i + 1) / 1000 of a continuous schedule's horizon.

    Args:
        schedule: the schedule of the times.
        indices: 0-based; all but the last by default.
    """
    if schedule.is_discrete:
        return [float(i) for i in (range(int(schedule.horizon) - 1) if indices is None else indices)]
    return [(i + 1) / 1000 * schedule.horizon for i in (range(999) if indices is None else indices)]


class TimePairs(NamedTuple):
    """Pairs of times t and t'. Fields: t and neighbour, in the schedule's unit, float64, (M,); dt = t' - t, 0 for derivatives."""

    t: Tensor
    neighbour: Tensor
    dt: float

    @classmethod
    def of(cls, schedule: Schedule, t: Iterable[float] | None = None, dt: float | None = None) -> Self:
        """Makes and checks the pairs of a curve.

        Args:
            schedule: the schedule of the times.
            t: times, the first 200 timesteps by default, or all if there are fewer.
            dt: distance to the neighbour, one step by default; 0 for derivatives at t.

        Raises:
            PartError: there is no time, a time or its neighbour is outside the schedule's domain, or dt is negative.
        """
        times = torch.tensor([float(value) for value in (timesteps(schedule)[:DEFAULT_STEPS] if t is None else t)], dtype=torch.float64)
        if not len(times):
            raise PartError("t", "no time is given; give one or more")
        distance = schedule.step if dt is None else dt
        if not 0 <= distance < schedule.horizon:
            message = f"{distance:g} is no distance inside the schedule's horizon"
            raise PartError("dt", f"{message}; give a value above 0 and below {schedule.horizon:g}")
        schedule.alpha_sigma(times)  # refuses times outside the domain
        low, high = schedule.domain
        neighbour = times + distance
        # t + dt may miss, by a rounding error, the next t, which would then be evaluated twice, or the end of the domain.
        for exact in (times.roll(-1), torch.full_like(times, high)):
            neighbour = torch.where((neighbour - exact).abs() <= TIME_TOLERANCE * schedule.horizon, exact, neighbour)
        if (worst := neighbour.max()) > high:
            found = f"{times.max():.12g} has its neighbour at {worst:.12g}, outside the times of schedule {schedule.type_name!r}"
            raise PartError("t", f"{found}; give t in [{low:g}, {high - distance:.12g}], or a smaller dt")
        return cls(times, neighbour, distance)
