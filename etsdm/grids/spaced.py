"""Grids at equal distances in a function of time: `uniform`, `linspace`, `quadratic`."""

from __future__ import annotations

from torch import Tensor

from etsdm.errors import PartError
from etsdm.grids.base import RealGrid, evenly, timesteps_until
from etsdm.registry import grids
from etsdm.schedules import Schedule

__all__ = ["Linspace", "QuadraticGrid", "UniformGrid"]


@grids.register("uniform")
class UniformGrid(RealGrid):
    """Steps of equal length in time, of which the last ends at the clean image: T i / n for i = n, ..., 1 on [0, T].

    On timesteps 0..T-1 the clean image is at -1, which gives `trailing` before its rounding.
    """

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        if end is not None:
            return evenly(start, end, n + 1)
        clean = schedule.domain[0] - 1 if schedule.is_discrete else 0.0
        times = evenly(start, clean, n + 1)[:-1]
        if times[-1] < schedule.domain[0]:
            most = timesteps_until(schedule, start)
            raise PartError("steps", f"{n} steps of grid 'uniform' would begin before the first timestep; give 1 to {most}")
        return times


@grids.register("linspace")
class Linspace(RealGrid):
    """Times at equal distances from the last to the first one that has noise, both included."""

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        return evenly(start, schedule.t_min, n) if end is None else evenly(start, end, n + 1)


@grids.register("quadratic")
class QuadraticGrid(RealGrid):
    """Times whose square roots are at equal distances, both ends included (DDIM's code; DPM-Solver's `time_quadratic`)."""

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        last, points = (schedule.t_min, n) if end is None else (end, n + 1)
        return evenly(start**0.5, last**0.5, points).square()
