"""Targets that speak of the noise alone, F = eps / g with a number g at each (alpha, sigma).

    eps = g F,    x0 = (x - sigma g F) / alpha

Where alpha = 0 the image has left no trace in x, and a network that predicts only the noise cannot say what it was.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.targets.base import Coefficients, Target

__all__ = ["NoiseTarget"]


class NoiseTarget(Target):
    """The noise up to a factor; x0 is undefined at alpha = 0.

    With `allow_eps_at_zero_snr` a call at alpha = 0 is no error: eps is there, x0 is not finite.
    """

    needs_signal: ClassVar[bool] = True

    allow_eps_at_zero_snr: bool = False

    @abstractmethod
    def noise_per_output(self, sigma: Tensor) -> Tensor:
        """The factor g of eps = g F, in the shape of sigma."""

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """F = 0 x0 + eps / g."""
        return torch.zeros_like(alpha), 1 / self.noise_per_output(sigma)

    def inverse(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """x0 = (x - sigma g F) / alpha, finite also where g = 0, and eps = g F; see `Target.inverse`."""
        g = self.noise_per_output(sigma)
        return Coefficients(self.c_in(alpha, sigma), 1 / alpha, -sigma * g / alpha, torch.zeros_like(alpha), g)

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """As `Target.coefficients`; with `allow_eps_at_zero_snr` those of x0 are infinite at alpha = 0."""
        looks = alpha.device.type == "cpu" and not self.allow_eps_at_zero_snr and not torch.compiler.is_compiling()
        if looks and not (alpha.all() if alpha.ndim else alpha):
            raise PartError("target", f"{self.type_name!r} does not determine x0 at alpha = 0; use v, or set allow_eps_at_zero_snr")
        return self.inverse(alpha, sigma)
