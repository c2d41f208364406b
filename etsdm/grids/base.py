"""Time grids: where a sampler steps.

A grid is a decreasing sequence of times in the schedule's unit, from the last time (or `start`) on. Without an `end` it has n
times, after which a sampler goes to the clean image, alpha = 1 and sigma = 0. With one it has n + 1, of which the last is `end`.
Times of real-valued grids need not be integers on a discrete schedule, where log-SNR is interpolated.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.registry import Part, grids
from etsdm.schedules import Schedule

__all__ = ["Grid", "RealGrid", "evenly", "refuse_outside", "timesteps_until"]


ROUNDING = 1e-9  # of a step, by which a time may miss the timestep that it is


class Grid(Part, family=grids):
    """Where to step."""

    @abstractmethod
    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """The times from which n steps start, decreasing, and with `end` the time at which the last of them ends.

        Args:
            schedule: whose times they are.
            n: number of steps, 1 or more; grids of timesteps take at most as many as there are.
            start: where to start, the schedule's last time by default.
            end: where to end; None for the clean image.

        Returns:
            float64, (n,), or (n + 1,) with an end.

        Raises:
            PartError: n, start or end is out of range, or the grid does not suit the schedule.
        """


def timesteps_until(schedule: Schedule, start: float | None = None) -> int:
    """How many timesteps there are up to a time, or in all; a continuous schedule's first is one `step` from its beginning."""
    if start is None:
        return round(schedule.horizon / schedule.step)
    return int(start / schedule.step + ROUNDING) + schedule.is_discrete


def refuse_outside(schedule: Schedule, **times: float | None) -> None:
    """Raises PartError for a time, given by the name of the user's option, that is not one of a schedule's."""
    low, high = schedule.domain
    for name, t in times.items():
        if t is not None and not low <= t <= high:
            raise PartError(name, f"{t:g} is outside the times of schedule {schedule.type_name!r}; give {low:g} to {high:g}")


class RealGrid(Grid):
    """A grid of real times between the last time and the first that has noise, evenly spaced in some function of time."""

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """n times for any n from 1 on; see `Grid.times`."""
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
        """n times from `start` on, or n + 1 up to `end`; both ends are set exactly afterwards."""


def evenly(start: float, end: float, points: int) -> Tensor:
    """`points` numbers at equal distances, both ends included."""
    return start + (end - start) * torch.arange(points, dtype=torch.float64) / max(points - 1, 1)
