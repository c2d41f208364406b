"""Prediction targets: what the network's output F stands for.

A target is two numbers at each (alpha, sigma): the ideal output is F = k_x0 x0 + k_eps eps. Together with
x = alpha x0 + sigma eps this is a linear system, whose solution gives x0 and eps from x and F:

    det = alpha k_eps - sigma k_x0,
    x0  = (k_eps x - sigma F) / det   =  c_skip x + c_out F,
    eps = (alpha F - k_x0 x) / det    =  e_skip x + e_out F.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.registry import Part, targets

__all__ = ["Coefficients", "Target"]


class Coefficients(NamedTuple):
    """x0 = c_skip x + c_out F and eps = e_skip x + e_out F, where F is the network's output for c_in x; float64."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    e_skip: Tensor
    e_out: Tensor


class Target(Part, family=targets):
    """What the network predicts, as coefficients in (alpha, sigma)."""

    @abstractmethod
    def mixture(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(k_x0, k_eps) of the ideal output F = k_x0 x0 + k_eps eps, in the shape of alpha and sigma."""

    def c_in(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Factor on x before the network; 1 unless the target rescales its input."""
        return torch.ones_like(alpha)

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """The way back from F: the coefficients of x0 and eps, in the shape of alpha and sigma."""
        k_x0, k_eps = self.mixture(alpha, sigma)
        det = alpha * k_eps - sigma * k_x0
        return Coefficients(self.c_in(alpha, sigma), k_eps / det, -sigma / det, -k_x0 / det, alpha / det)

    def value(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The ideal output F for clean images x0 and noise eps; alpha and sigma broadcast against them."""
        k_x0, k_eps = self.mixture(alpha, sigma)
        return k_x0.to(x0.dtype) * x0 + k_eps.to(x0.dtype) * eps
