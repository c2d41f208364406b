"""Remaps: invertible functions of the time as condition.

A remap g is strictly monotone on the schedule's times, apart from clipped ends that keep it finite. With `scale` "horizon" the
condition is g normalised to [0, T], T the schedule's horizon,

    f(t) = T (g(t) - g_min) / (g_max - g_min),   g_min, g_max the least and greatest g on the domain,

the range for which the time embeddings of timestep networks are made; with "none" it is g. The paper (appendix D.3.3) does not
specify its scaling; "horizon" as the default is a choice of this library. Time samplers and grids that are uniform in f(t) instead
of t use the inverse.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap, ConditionUnit
from etsdm.errors import PartError
from etsdm.schedules import Schedule

__all__ = ["Remap"]


class Remap(ConditionMap):
    """A condition in another unit than time, with an exact inverse.

    Attributes:
        value_unit: unit of g.
        scale: `horizon` to normalise g to [0, horizon], `none` for g itself.
    """

    value_unit: ClassVar[ConditionUnit] = "other"

    scale: Literal["horizon", "none"] = "horizon"

    @abstractmethod
    def _value(self, t: Tensor, schedule: Schedule) -> Tensor:
        """g at times that are float64."""

    @abstractmethod
    def _time(self, value: Tensor, schedule: Schedule) -> Tensor:
        """The time at which g takes a value; float64, in the range of g."""

    def _clip(self, schedule: Schedule) -> tuple[float, float]:
        """First and last time between which g is not clipped."""
        return schedule.domain

    def _condition(self, t: Tensor, schedule: Schedule | None) -> Tensor:
        if schedule is None:
            raise PartError("schedule", f"found none, and condition map {self.type_name!r} needs it; give the schedule of t")
        value = self._value(t.to(torch.float64), schedule)
        if self.scale == "horizon":
            least, greatest = _range(self, schedule)
            value = (value - least) / ((greatest - least) or 1.0) * schedule.horizon
        return value.to(t.dtype)

    def unit(self, schedule: Schedule) -> ConditionUnit:
        """`time` where g is normalised to [0, horizon], else that of g."""
        return "time" if self.scale == "horizon" else self.value_unit

    @property
    def is_remap(self) -> bool:
        """True."""
        return True

    @property
    def is_invertible(self) -> bool:
        """True."""
        return True

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """Computes the time from its condition; see `ConditionMap.inverse`."""
        value = condition.to(torch.float64)
        least, greatest = _range(self, schedule)
        if self.scale == "horizon":
            value = least + value / schedule.horizon * (greatest - least)
        return self._time(value.clamp(least, greatest), schedule).clamp(*self._clip(schedule))

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """(t, t) except where g is clipped; see `ConditionMap.shared_interval`."""
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
