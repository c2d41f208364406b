"""Remaps in closed form: 1/t and the inverse sigmoid (paper, appendix D.3.3).

    inverse           g(t) = 1/t                  t = index + 1 in 1..T of a discrete schedule
    inverse-sigmoid   g(u) = log(u / (1 - u))     u = (index + 1) / (T + 1), or t / horizon

1/t spends most of its range on the first times: of t drawn uniformly in 1/t on 1..1000, 95 % are 20 or less. The inverse sigmoid is
symmetric and stretches both ends.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from etsdm.condition_maps.remap import Remap
from etsdm.registry import condition_maps
from etsdm.schedules import Schedule

__all__ = ["Inverse", "InverseSigmoid"]


def _first(schedule: Schedule) -> int:
    """The paper's index of time 0: 1 for discrete schedules, whose timesteps count from 1 there, else 0."""
    return 1 if schedule.is_discrete else 0


@condition_maps.register("inverse")
class Inverse(Remap):
    """The condition 1/t (paper, appendix D.3.3).

    Attributes:
        floor: lower clip of t on continuous schedules, as a fraction of the horizon.
        scale: see `Remap`.
    """

    floor: float = Field(1e-3, gt=0, lt=1)

    def _clip(self, schedule: Schedule) -> tuple[float, float]:
        low, high = schedule.domain
        return (low if schedule.is_discrete else max(low, self.floor * schedule.horizon)), high

    def _value(self, t: Tensor, schedule: Schedule) -> Tensor:
        return 1 / (t.clamp(*self._clip(schedule)) + _first(schedule))

    def _time(self, value: Tensor, schedule: Schedule) -> Tensor:
        return 1 / value - _first(schedule)


@condition_maps.register("inverse-sigmoid")
class InverseSigmoid(Remap):
    """The condition log(u / (1 - u)), u the time as a fraction of the horizon (paper, appendix D.3.3).

    Attributes:
        margin: u is clipped to [margin, 1 - margin] on continuous schedules.
        scale: see `Remap`.
    """

    margin: float = Field(1e-5, gt=0, lt=0.5)

    def _clip(self, schedule: Schedule) -> tuple[float, float]:
        low, high = schedule.domain
        if schedule.is_discrete:
            return low, high
        return max(low, self.margin * schedule.horizon), min(high, (1 - self.margin) * schedule.horizon)

    def _value(self, t: Tensor, schedule: Schedule) -> Tensor:
        return torch.logit((t.clamp(*self._clip(schedule)) + _first(schedule)) / (schedule.horizon + _first(schedule)))

    def _time(self, value: Tensor, schedule: Schedule) -> Tensor:
        return value.sigmoid() * (schedule.horizon + _first(schedule)) - _first(schedule)
