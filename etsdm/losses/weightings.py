"""Weightings: how much the loss at time t counts."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from etsdm.registry import Part, weightings
from etsdm.schedules import Schedule

__all__ = ["Constant", "Weighting"]


class Weighting(Part, family=weightings):
    """A weight for each training time."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Args: schedule: whose times; t: times, (B,). Returns: weights, float64, (B,)."""


@weightings.register("constant")
class Constant(Weighting):
    """Weight 1 at all times, the "simple" loss (Ho et al. 2020; paper Eq. 4)."""

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(t, dtype=torch.float64)
