"""Time grids of samplers.

A grid is a decreasing sequence of times in the schedule's unit, from the schedule's last time (or `start`) on. Without an `end` it has
n times, and the sampler's last step goes to the clean image, alpha = 1 and sigma = 0. With an `end` it has n + 1 times, the last of
which is `end`. Times of real-valued grids need not be integers on a discrete schedule, where log-SNR is interpolated.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.registry import Part, grids
from etsdm.schedules import Schedule

__all__ = ["VISIBLE_SIGNAL", "Grid", "RealGrid", "evenly", "level_distance", "refuse_outside", "signal_share", "timesteps_until"]

# Difference of shares of signal or noise that may pass for none: half a grey image in [-1, 1] then lies 0.025 standard deviations off.
VISIBLE_SIGNAL = 0.05

TIMESTEP_TOLERANCE = 1e-9  # of a step: rounding error of a time that is a timestep


class Grid(Part, family=grids):
    """Decreasing times of a sampler's steps."""

    @abstractmethod
    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """Computes the start times of n steps, and with `end` also the end of the last step.

        Args:
            schedule: the schedule of the times.
            n: number of steps, 1 or more; in grids of timesteps at most the number of timesteps.
            start: time of the first step, the schedule's last time by default.
            end: time at which the last step ends; None for the clean image.

        Returns:
            Decreasing times, float64, (n,), or (n + 1,) with an `end`.

        Raises:
            PartError: n, start or end is out of range, or the grid does not suit the schedule.
        """


def timesteps_until(schedule: Schedule, start: float | None = None) -> int:
    """Number of timesteps up to a time, or of all; a continuous schedule's first timestep is one `step` after its start."""
    if start is None:
        return round(schedule.horizon / schedule.step)
    return int(start / schedule.step + TIMESTEP_TOLERANCE) + schedule.is_discrete


def signal_share(schedule: Schedule, t: float) -> float:
    """alpha / sqrt(alpha^2 + sigma^2) at a time: 0 for pure noise, 1 for a clean image."""
    alpha, sigma = (level.item() for level in schedule.alpha_sigma(t))
    return alpha / math.hypot(alpha, sigma)


def level_distance(schedule: Schedule, t: float, u: float) -> float:
    """Larger of the differences of alpha and of sigma between two times, each divided by sqrt(alpha^2 + sigma^2)."""
    angle, other = (math.atan2(sigma.item(), alpha.item()) for alpha, sigma in map(schedule.alpha_sigma, (t, u)))
    return max(abs(math.cos(angle) - math.cos(other)), abs(math.sin(angle) - math.sin(other)))


def refuse_outside(schedule: Schedule, **times: float | None) -> None:
    """Raises PartError for times, by the name of the user's option, outside the schedule's domain."""
    low, high = schedule.domain
    for name, t in times.items():
        if t is not None and not low <= t <= high:
            raise PartError(name, f"{t:g} is outside the times of schedule {schedule.type_name!r}; give {low:g} to {high:g}")


class RealGrid(Grid):
    """A grid of real times from the schedule's last time to `Schedule.t_min`, evenly spaced in a function of time."""

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """Computes n times for any n >= 1; see `Grid.times`."""
        if n < 1:
            raise PartError("steps", f"{n} is no number of steps; give 1 or more")
        first = schedule.domain[1] if start is None else start
        refuse_outside(schedule, start=first, t_end=end)
        if schedule.sigma(first) == 0:
            raise PartError("start", f"at {first:g} the image is clean already; give more than {first:g}")
        if end is not None and not end < first:
            raise PartError("t_end", f"{end:g} does not lie before the start {first:g}; give less")
        times = self._between(schedule, first, end, n)
        times[0] = first
        if end is not None:
            times[-1] = end
        if not (times.diff() < 0).all():
            raise PartError("steps", f"{n} times of grid {self.type_name!r} are not all different; give fewer")
        return times

    @abstractmethod
    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        """n times from `start` on, or n + 1 to `end`; `times` sets both ends exactly."""


def evenly(start: float, end: float, points: int) -> Tensor:
    """Equally spaced numbers from start to end, both included, (points,)."""
    return start + (end - start) * torch.arange(points, dtype=torch.float64) / max(points - 1, 1)
