"""Time grids: where a sampler steps.

A grid is a decreasing sequence of times in the schedule's unit, from the last time (or `start`) on. Without an `end` it has n
times, after which a sampler goes to the clean image, alpha = 1 and sigma = 0. With one it has n + 1, of which the last is `end`.
Times of real-valued grids need not be integers on a discrete schedule, where log-SNR is interpolated.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import accumulate, repeat
from typing import Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.registry import Part, field_error, grids
from etsdm.schedules import Schedule

__all__ = [
    "EvenIn",
    "Explicit",
    "Grid",
    "Karras",
    "Leading",
    "Linspace",
    "LogSNRGrid",
    "QuadraticGrid",
    "RealGrid",
    "Respaced",
    "TimestepGrid",
    "Trailing",
    "UniformGrid",
]


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
            ValueError: n, start or end is out of range, or the grid does not suit the schedule.
        """


class TimestepGrid(Grid):
    """A grid of timesteps, which ends in the clean image.

    They are a discrete schedule's own; a continuous one is cut into a thousand, at its `step`, 2 `step`, ..., its last time.
    """

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """n of the timesteps from the first to the last, or to `start`; see `Grid.times`."""
        if end is not None:
            raise ValueError(f"t_end: grid {self.type_name!r} ends in the clean image, not at {end:g}; leave t_end out, or give linspace")
        refuse_outside(schedule, start=start)
        total = timesteps_until(schedule, start)
        if not total:
            raise ValueError(f"start: {start:g} lies before the first timestep, {schedule.step:g}; give {schedule.step:g} or more")
        if not 1 <= n <= total:
            what = f"a schedule of {total} timesteps" if start is None else f"the {total} timesteps up to {start:g}"
            raise ValueError(f"steps: {n} steps do not fit {what}; give 1 to {total}")
        first = 0 if schedule.is_discrete else 1
        return (self._indices(total, n).to(torch.float64) + first).mul(schedule.step).clamp(max=schedule.domain[1]).flip(0)

    @abstractmethod
    def _indices(self, total: int, n: int) -> Tensor:
        """n increasing indices among 0..total-1."""


def timesteps_until(schedule: Schedule, start: float | None = None) -> int:
    """How many timesteps there are up to a time, or in all; a continuous schedule's first is one `step` from its beginning."""
    if start is None:
        return round(schedule.horizon / schedule.step)
    return int(start / schedule.step + ROUNDING) + schedule.is_discrete


def refuse_outside(schedule: Schedule, **times: float | None) -> None:
    """Raises ValueError for a time, given by the name of the user's option, that is not one of a schedule's."""
    low, high = schedule.domain
    for name, t in times.items():
        if t is not None and not low <= t <= high:
            raise ValueError(f"{name}: {t:g} is outside the times of schedule {schedule.type_name!r}; give {low:g} to {high:g}")


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


class RealGrid(Grid):
    """A grid of real times between the last time and the first that has noise, evenly spaced in some function of time."""

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """n times for any n from 1 on; see `Grid.times`."""
        if n < 1:
            raise ValueError(f"steps: {n} is no number of steps; give 1 or more")
        first = schedule.domain[1] if start is None else start
        refuse_outside(schedule, start=first, t_end=end)
        if schedule.sigma(first) == 0:
            raise ValueError(f"start: at {first:g} the image is clean already; give more than {first:g}")
        if end is not None and not end < first:
            raise ValueError(f"t_end: {end:g} does not lie before the start {first:g}; give less")
        times = self._between(schedule, first, end, n)
        times[0] = first
        if end is not None:
            times[-1] = end
        if not (times.diff() < 0).all():
            raise ValueError(f"steps: {n} times of grid {self.type_name!r} are not all different; give fewer")
        return times

    @abstractmethod
    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        """n times from `start` on, or n + 1 up to `end`; both ends are set exactly afterwards."""


def _evenly(start: float, end: float, points: int) -> Tensor:
    return start + (end - start) * torch.arange(points, dtype=torch.float64) / max(points - 1, 1)


@grids.register("uniform")
class UniformGrid(RealGrid):
    """Steps of equal length in time, of which the last ends at the clean image: T i / n for i = n, ..., 1 on [0, T].

    On timesteps 0..T-1 the clean image is at -1, which gives `trailing` before its rounding.
    """

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        if end is not None:
            return _evenly(start, end, n + 1)
        clean = schedule.domain[0] - 1 if schedule.is_discrete else 0.0
        times = _evenly(start, clean, n + 1)[:-1]
        if times[-1] < schedule.domain[0]:
            most = timesteps_until(schedule, start)
            raise ValueError(f"steps: {n} steps of grid 'uniform' would begin before the first timestep; give 1 to {most}")
        return times


@grids.register("linspace")
class Linspace(RealGrid):
    """Times at equal distances from the last to the first one that has noise, both included."""

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        return _evenly(start, schedule.first_noisy, n) if end is None else _evenly(start, end, n + 1)


@grids.register("quadratic")
class QuadraticGrid(RealGrid):
    """Times whose square roots are at equal distances, both ends included (DDIM's code; DPM-Solver's `time_quadratic`)."""

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        last, points = (schedule.first_noisy, n) if end is None else (end, n + 1)
        return _evenly(start**0.5, last**0.5, points).square()


class SpacedInNoise(RealGrid):
    """A grid in a function of log-SNR; where the start has no signal the first step goes to the step after it."""

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        if end is not None and schedule.sigma(end) == 0:
            # Log-SNR is infinite there: the step to it is the one after the last of the others.
            return torch.cat([self._between(schedule, start, None, n), torch.tensor([end], dtype=torch.float64)])
        last, points = (schedule.first_noisy, n) if end is None else (end, n + 1)
        if schedule.alpha(start) > 0:
            return self._of_log_snr(schedule, start, last, points)
        start_again = start - schedule.step
        rest = self._of_log_snr(schedule, start_again, last, points - 1) if points > 1 else torch.empty(0, dtype=torch.float64)
        return torch.cat([torch.tensor([start], dtype=torch.float64), rest])

    def _of_log_snr(self, schedule: Schedule, start: float, end: float, points: int) -> Tensor:
        times = schedule.t_of_log_snr(self._log_snrs(schedule.log_snr(start).item(), schedule.log_snr(end).item(), points))
        times[0], times[-1] = start, end if points > 1 else start
        return times

    @abstractmethod
    def _log_snrs(self, start: float, end: float, points: int) -> Tensor:
        """Increasing log-SNRs between two, both included."""


@grids.register("log-snr")
class LogSNRGrid(SpacedInNoise):
    """Times at equal distances of log-SNR (DPM-Solver's `logSNR`)."""

    def _log_snrs(self, start: float, end: float, points: int) -> Tensor:
        return _evenly(start, end, points)


@grids.register("karras")
class Karras(SpacedInNoise):
    """Times whose sigma/alpha to the power 1/rho are at equal distances (Karras et al. 2022, Eq. 5)."""

    rho: PositiveFloat = 7.0

    def _log_snrs(self, start: float, end: float, points: int) -> Tensor:
        # In powers of sigma/alpha = exp(-log-SNR / 2).
        root = torch.tensor([start, end], dtype=torch.float64).div(-2 * self.rho).exp()
        return -2 * self.rho * _evenly(root[0].item(), root[1].item(), points).log()


@grids.register("explicit")
class Explicit(Grid):
    """Times given one by one; steps must be as many. A last time without noise is the end, and no step starts there."""

    at: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _decreasing(self) -> Self:
        for k, (earlier, later) in enumerate(zip(self.at, self.at[1:], strict=False), start=1):
            if not later < earlier:
                raise field_error("Explicit", ("at", k), f"{later:g} does not lie before {earlier:g}; give decreasing times")
        return self

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """The times as given, from `start` on and before `end`; see `Grid.times`."""
        low, high = schedule.domain
        if self.at[0] > high or self.at[-1] < low:
            found = self.at[0] if self.at[0] > high else self.at[-1]
            raise ValueError(f"at: {found:g} is outside the times of schedule {schedule.type_name!r}; give {low:g} to {high:g}")
        refuse_outside(schedule, t_end=end)
        chosen = [t for t in self.at if (start is None or t <= start) and (end is None or t > end)]
        if not chosen:
            raise ValueError("at: none of the times of grid 'explicit' lies between start and t_end; give some that do")
        if len(chosen) != n:
            raise ValueError(f"steps: {n} steps do not fit the {len(chosen)} times of grid 'explicit'; give {len(chosen)}")
        return torch.tensor([*chosen, *([] if end is None else [end])], dtype=torch.float64)


@grids.register("uniform-in-f")
class EvenIn(RealGrid):
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

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        first, last = self.map.ends(schedule)
        if start != schedule.domain[1]:
            last = self._f(schedule, start)
        if end is not None:
            first, gaps = self._f(schedule, end), n
        else:
            ends_clean = schedule.sigma(self.map.inverse(torch.tensor(first, dtype=torch.float64), schedule)) == 0
            gaps = n if ends_clean else max(n - 1, 1)
        points = n if end is None else n + 1
        f = last + (first - last) * torch.arange(points, dtype=torch.float64) / gaps
        return self.map.inverse(f, schedule).clamp(*schedule.domain)

    def _f(self, schedule: Schedule, t: float) -> float:
        return float(self.map(torch.tensor(t, dtype=torch.float64), schedule))
