"""A constant condition."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap, ConditionUnit
from etsdm.registry import condition_maps
from etsdm.schedules import Schedule

__all__ = ["Constant"]


@condition_maps.register("constant")
class Constant(ConditionMap):
    """The same condition at all times, f(t) = `value`: a network without time conditioning.

    Attributes:
        value: the condition.
    """

    value: float = 0.0

    def _condition(self, t: Tensor, schedule: Schedule | None) -> Tensor:
        return torch.full_like(t, self.value)

    def unit(self, schedule: Schedule) -> ConditionUnit:
        """`other`: the value stands for no time."""
        return "other"

    @property
    def keeps_integers(self) -> bool:
        """True if `value` is an integer."""
        return self.value.is_integer()

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """Ends of the schedule's domain; see `ConditionMap.shared_interval`."""
        low, high = (torch.full_like(t, end, dtype=torch.float64) for end in schedule.domain)
        return low, high
