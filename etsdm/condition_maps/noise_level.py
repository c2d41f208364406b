"""Remaps to the noise level, by the schedule.

sigma     g(t) = sigma(t)
log-snr   g(t) = log(alpha(t)^2 / sigma(t)^2), clipped to [-bound, bound]
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.condition_maps.base import ConditionUnit
from etsdm.condition_maps.remap import Remap
from etsdm.registry import condition_maps
from etsdm.schedules import Schedule

__all__ = ["LogSNR", "Sigma"]

BISECTION_STEPS = 64  # after which the ends of the schedule's domain have met


@condition_maps.register("sigma")
class Sigma(Remap):
    """The condition sigma(t).

    Where d sigma/dt is infinite at t = 0, the slope of the optimum in sigma is finite, by the chain rule.
    """

    value_unit: ClassVar[ConditionUnit] = "noise-level"

    def _value(self, t: Tensor, schedule: Schedule) -> Tensor:
        return schedule.sigma(t)

    def _time(self, value: Tensor, schedule: Schedule) -> Tensor:
        # By bisection, because log-SNR does not follow from sigma alone.
        low, high = (torch.full_like(value, end) for end in schedule.domain)
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            below = schedule.sigma(middle) < value
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        # The lower end is approached from above and not met, which at sigma = 0 matters.
        return torch.where(value <= schedule.sigma(schedule.domain[0]).item(), schedule.domain[0], high)


@condition_maps.register("log-snr")
class LogSNR(Remap):
    """The condition log-SNR, clipped to [-`bound`, `bound`].

    Attributes:
        bound: largest absolute value of the condition before it is scaled.
    """

    bound: PositiveFloat = 20.0

    def _clip(self, schedule: Schedule) -> tuple[float, float]:
        first, last = schedule.t_of_log_snr(torch.tensor([self.bound, -self.bound], dtype=torch.float64)).tolist()
        return first, last

    def _value(self, t: Tensor, schedule: Schedule) -> Tensor:
        return schedule.log_snr(t).clamp(-self.bound, self.bound)

    def _time(self, value: Tensor, schedule: Schedule) -> Tensor:
        return schedule.t_of_log_snr(value)
