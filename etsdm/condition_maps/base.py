"""Condition maps: what the network is told instead of the true time.

A map f sends a time t, in the schedule's unit, to the condition f(t) that the backbone receives. Only the condition changes:
alpha, sigma, the target and every coefficient of a sampler use the true t (paper Eq. 9, 10). Every map here is monotone.

Two kinds: a map that shares conditions (`e-tsdm`, `shared-intervals`, `constant`) gives a time again; a remap (`inverse`,
`inverse-sigmoid`, `sigma`, `log-snr`) reads a time and gives a number in another unit, and has an inverse.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.registry import FieldProblem, Part, condition_maps
from etsdm.schedules import Schedule

__all__ = ["ConditionMap"]


class ConditionMap(Part, family=condition_maps):
    """f: t -> condition, elementwise, the same in training and in sampling."""

    @abstractmethod
    def __call__(self, t: Tensor, schedule: Schedule | None = None) -> Tensor:
        """The condition at each time.

        Args:
            t: times in the schedule's unit, any shape.
            schedule: whose times they are; maps that read a horizon or a noise level need it.

        Returns:
            Conditions, same shape; float64 where t is an integer tensor, else t's dtype.

        Raises:
            ValueError: the map needs a schedule and none is given.
        """

    @property
    def is_remap(self) -> bool:
        """Whether f reads a time and gives a number in another unit."""
        return False

    @property
    def is_invertible(self) -> bool:
        """Whether different times get different conditions, but for clipped ends."""
        return False

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """The time that has a condition.

        Args:
            condition: values of f, any shape; beyond the values that f takes they count as the nearest of these.
            schedule: whose times are asked for.

        Returns:
            Times in the schedule's unit, float64, same shape.

        Raises:
            ValueError: the map gives several times the same condition.
        """
        raise PartError("map", f"{self.type_name!r} gives several times one condition and has no inverse; give identity or a remap")

    def ends(self, schedule: Schedule) -> tuple[float, float]:
        """The conditions of the schedule's first and last time; the first is the larger one where f decreases."""
        first, last = self(torch.tensor(schedule.domain, dtype=torch.float64), schedule).tolist()
        return first, last

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The ends of the interval of times that share the condition of t; both are t where f is injective.

        Args:
            t: times in the schedule's unit, any shape.
            schedule: whose times they are.

        Returns:
            (low, high), float64, same shape; an interval is closed on the left and open on the right.
        """
        t = t.to(torch.float64)
        return t, t

    def noising_time(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The time whose alpha and sigma noise a training image that was given t: t itself, unless the map shares levels too."""
        return t

    def check(self, schedule: Schedule) -> list[FieldProblem]:
        """What in this map does not fit a schedule; locations are relative to the map."""
        return []
