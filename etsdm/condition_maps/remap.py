"""Remaps: the network is told another function of the time, one condition a time.

A remap g is strictly monotone on the schedule's times, but for clipped ends that keep it finite. With `scale` "horizon" the
condition is g moved and stretched onto [0, T], T the schedule's horizon,

    f(t) = T (g(t) - g_min) / (g_max - g_min),   g_min, g_max the least and greatest g on the domain,

so that the embedding of a network made for timesteps sees the range that it was made for; with "none" it is g. The paper
(appendix D.3.3) does not say how it scales; that "horizon" is the default is the choice of this library. A map's inverse is
what a time sampler or a grid needs that is uniform in f(t) instead of t.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.errors import PartError
from etsdm.schedules import Schedule

__all__ = ["Remap"]


class Remap(ConditionMap):
    """A condition in a unit of its own, with an exact inverse."""

    scale: Literal["horizon", "none"] = "horizon"

    @abstractmethod
    def _value(self, t: Tensor, schedule: Schedule) -> Tensor:
        """g at times that are float64."""

    @abstractmethod
    def _time(self, value: Tensor, schedule: Schedule) -> Tensor:
        """The time at which g has a value that is float64 and among those that g takes."""

    def _clip(self, schedule: Schedule) -> tuple[float, float]:
        """The first and last time between which g is not clipped."""
        return schedule.domain

    def __call__(self, t: Tensor, schedule: Schedule | None = None) -> Tensor:
        """Returns the scaled g(t); see `ConditionMap.__call__`."""
        if schedule is None:
            raise PartError("schedule", f"condition map {self.type_name!r} reads it and found none; give the schedule of t")
        value = self._value(t.to(torch.float64), schedule)
        if self.scale == "horizon":
            least, greatest = _range(self, schedule)
            value = (value - least) / ((greatest - least) or 1.0) * schedule.horizon
        return value.to(t.dtype) if t.is_floating_point() else value

    @property
    def is_remap(self) -> bool:
        """True."""
        return True

    @property
    def is_invertible(self) -> bool:
        """True."""
        return True

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """The time that has a condition; see `ConditionMap.inverse`."""
        value = condition.to(torch.float64)
        least, greatest = _range(self, schedule)
        if self.scale == "horizon":
            value = least + value / schedule.horizon * (greatest - least)
        return self._time(value.clamp(least, greatest), schedule).clamp(*self._clip(schedule))

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """(t, t) but where g is clipped; see `ConditionMap.shared_interval`."""
        t = t.to(torch.float64)
        (low, high), (first, last) = schedule.domain, self._clip(schedule)
        value = self._value(t, schedule)
        at_low, at_high = (value == self._value(torch.full_like(value, end), schedule) for end in (low, high))
        left = torch.where(at_low, low, torch.where(at_high, t.clamp(max=last), t))
        right = torch.where(at_high, high, torch.where(at_low, t.clamp(min=first), t))
        return left, right


@lru_cache(maxsize=128)
def _range(remap: Remap, schedule: Schedule) -> tuple[float, float]:
    least, greatest = sorted(remap._value(torch.tensor(schedule.domain, dtype=torch.float64), schedule).tolist())
    return least, greatest
