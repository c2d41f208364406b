"""Velocity prediction."""

from __future__ import annotations

from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.base import Target

__all__ = ["V"]


@targets.register("v")
class V(Target):
    """The velocity, F = v = alpha eps - sigma x0 (Salimans and Ho 2022; paper Eq. A10)."""

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of F = -sigma x0 + alpha eps."""
        return -sigma, alpha
