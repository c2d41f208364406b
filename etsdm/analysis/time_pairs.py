"""Pairs of times t and t' = t + dt, between which a Lipschitz curve is estimated.

Index i of a discrete schedule stands for t = (i + 1) / T of its continuous limit. A step of a continuous schedule is 1/1000 of its
horizon here, and its times begin one step after 0. Where t is a noise level, its 1,000 times have equal distances in log sigma, from the
smallest to the largest noise level of samplers.
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
CONTINUOUS_STEPS = 1000  # of a continuous schedule
TIME_TOLERANCE = 1e-12  # of the horizon: times that differ by less are equal up to rounding


def timesteps(schedule: Schedule, indices: Iterable[int] | None = None) -> list[float]:
    """Converts timestep indices to times in the schedule's unit.

    They are i itself of a discrete schedule, (i + 1) / 1000 of a continuous one's horizon, and t_min (t_max / t_min)^(i / 999) where t is
    a noise level.

    Args:
        schedule: the schedule of the times.
        indices: 0-based; all but the last by default.
    """
    if schedule.is_discrete:
        return [float(i) for i in (range(int(schedule.horizon) - 1) if indices is None else indices)]
    chosen = range(CONTINUOUS_STEPS - 1) if indices is None else indices
    if schedule.time_is_noise_level:
        return [schedule.t_min * _ratio(schedule) ** i for i in chosen]
    return [(i + 1) / CONTINUOUS_STEPS * schedule.horizon for i in chosen]


def _ratio(schedule: Schedule) -> float:
    """The ratio of two neighbouring noise levels."""
    ratio: float = (schedule.domain[1] / schedule.t_min) ** (1 / (CONTINUOUS_STEPS - 1))
    return ratio


def _steps(schedule: Schedule, t: Tensor) -> Tensor:
    """The length of one step from each time on."""
    return t * (_ratio(schedule) - 1) if schedule.time_is_noise_level else torch.full_like(t, schedule.step)


class TimePairs(NamedTuple):
    """Pairs of times t and t'.

    Fields: t and neighbour, in the schedule's unit, float64, (M,); dt = t' - t, 0 for derivatives, (M,); step, the length of one step from
    t on, (M,).
    """

    t: Tensor
    neighbour: Tensor
    dt: Tensor
    step: Tensor

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
        if dt is not None and not 0 <= dt < schedule.horizon:
            message = f"{dt:g} is no distance inside the schedule's horizon"
            raise PartError("dt", f"{message}; give a value above 0 and below {schedule.horizon:g}")
        schedule.alpha_sigma(times)  # refuses times outside the domain
        low, high = schedule.domain
        step = _steps(schedule, times)
        distance = step if dt is None else torch.full_like(times, dt)
        neighbour = times + distance
        # t + dt may miss, by a rounding error, the next t, which would then be evaluated twice, or the end of the domain.
        for exact in (times.roll(-1), torch.full_like(times, high)):
            neighbour = torch.where((neighbour - exact).abs() <= TIME_TOLERANCE * schedule.horizon, exact, neighbour)
        if (worst := neighbour.max()) > high:
            found = f"{times.max():.12g} has its neighbour at {worst:.12g}, outside the times of schedule {schedule.type_name!r}"
            raise PartError("t", f"{found}; give t in [{low:g}, {high - distance[neighbour.argmax()]:.12g}], or a smaller dt")
        return cls(times, neighbour, distance, step)
