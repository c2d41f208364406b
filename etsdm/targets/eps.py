"""Noise prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.base import Target

__all__ = ["Eps"]


@targets.register("eps")
class Eps(Target):
    """The noise, F = eps (Ho et al. 2020; paper Eq. 4); its optimum is singular in time at t = 0."""

    def mixture(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """F = 0 x0 + 1 eps."""
        return torch.zeros_like(alpha), torch.ones_like(alpha)
