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

    def _condition(self, t: Tensor, schedule: Schedule | None) -> Tensor:
        return t

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
