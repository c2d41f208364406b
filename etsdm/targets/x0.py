"""Prediction of the clean image."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.base import Coefficients, Target

__all__ = ["X0"]


@targets.register("x0")
class X0(Target):
    """The clean image, F = x0; its optimum is smooth in time, and eps is undefined at sigma = 0."""

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of F = 1 x0 + 0 eps."""
        return torch.ones_like(alpha), torch.zeros_like(alpha)

    def inverse(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """x0 = F also where sigma = 0, where the general solution is 0/0; see `Target.inverse`."""
        one = torch.ones_like(alpha)
        return Coefficients(one, torch.zeros_like(alpha), one, 1 / sigma, -alpha / sigma)
