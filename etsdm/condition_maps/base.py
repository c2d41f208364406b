"""Condition maps: f(t), the condition that the network receives in place of the time t.

Only the condition changes: alpha, sigma, the target and every coefficient of a sampler use the true t (paper Eq. 9, 10). t is in
the schedule's unit. Every map here is monotone.

Two kinds: sharing maps (`e-tsdm`, `shared-intervals`, `constant`) give several times one condition, which is a time again; remaps
(`inverse`, `inverse-sigmoid`, `sigma`, `log-snr`) convert the time to another unit, and have an inverse.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.registry import FieldProblem, Part, condition_maps
from etsdm.schedules import Schedule
from etsdm.schedules.times import as_times

__all__ = ["ConditionMap", "ConditionUnit"]

# A time in [0, horizon]; a noise level sigma or sigma/alpha; another value, such as log-SNR.
ConditionUnit = Literal["time", "noise-level", "other"]


class ConditionMap(Part, family=condition_maps):
    """f: t -> condition, elementwise, the same in training and in sampling; a subclass defines `_condition`."""

    def __call__(self, t: Any, schedule: Schedule | None = None) -> Tensor:
        """Computes the condition at each time.

        Args:
            t: times in the schedule's unit, a tensor or an array of any shape, or a number.
            schedule: the schedule of t; needed by remaps.

        Returns:
            Conditions, same shape; of a floating tensor in its dtype, of int32 and int64 likewise where `keeps_integers`, else float64.

        Raises:
            ValueError: the map needs a schedule and none is given.
        """
        times = as_times(t)
        if times.is_floating_point():
            return self._condition(times, schedule)
        condition = self._condition(times.to(torch.float64), schedule)
        return condition.to(times.dtype) if times.dtype in (torch.int32, torch.int64) and self.keeps_integers else condition

    @abstractmethod
    def _condition(self, t: Tensor, schedule: Schedule | None) -> Tensor:
        """The condition at times that are a floating tensor, in its shape and dtype."""

    def unit(self, schedule: Schedule) -> ConditionUnit:
        """Unit of the conditions, by which the time input is chosen; the schedule's unit of time, unless the map changes it."""
        return "noise-level" if schedule.time_is_noise_level else "time"

    @property
    def keeps_integers(self) -> bool:
        """True if every integer time has an integer condition."""
        return False

    @property
    def is_remap(self) -> bool:
        """True if f converts the time to another unit."""
        return False

    @property
    def is_invertible(self) -> bool:
        """True if different times get different conditions, apart from clipped ends."""
        return False

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """Computes the time from its condition.

        Args:
            condition: values of f, any shape; clamped to the range of f.
            schedule: the schedule of the times.

        Returns:
            Times in the schedule's unit, float64, same shape.

        Raises:
            ValueError: the map shares conditions and has no inverse.
        """
        raise PartError("map", f"{self.type_name!r} shares conditions between times and has no inverse; give identity or a remap")

    def ends(self, schedule: Schedule) -> tuple[float, float]:
        """Conditions of the schedule's first and last time; the first is the larger one where f decreases."""
        first, last = self(torch.tensor(schedule.domain, dtype=torch.float64), schedule).tolist()
        return first, last

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """Ends of the interval of times that share the condition of t; both are t where f is injective.

        Args:
            t: times in the schedule's unit, any shape, float64; a lower precision widens only the tolerance at edges.
            schedule: the schedule of t.

        Returns:
            (low, high), float64, same shape; an interval is closed on the left and open on the right.
        """
        t = t.to(torch.float64)
        return t, t

    def noising_time(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The time whose alpha and sigma noise a training image with the drawn time t; t itself, unless the map shares noise levels."""
        return t

    def check(self, schedule: Schedule) -> list[FieldProblem]:
        """Reports fields that do not fit a schedule; locations are relative to the map."""
        return []
