"""The identity map, the conditioning of common diffusion models."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.registry import condition_maps
from etsdm.schedules import Schedule

__all__ = ["Identity"]


@condition_maps.register("identity")
class Identity(ConditionMap):
    """The true time as condition, f(t) = t: the baseline."""

    def __call__(self, t: Tensor, schedule: Schedule | None = None) -> Tensor:
        """Returns t."""
        return t if t.is_floating_point() else t.to(torch.float64)

    @property
    def keeps_integers(self) -> bool:
        """True."""
        return True

    @property
    def is_invertible(self) -> bool:
        """True."""
        return True

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """Returns the condition."""
        return condition.to(torch.float64)
