"""The linear schedule of DDPM, and its continuous limit."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from etsdm.registry import schedules
from etsdm.schedules.polynomial import PolynomialContinuous, PowerBetas

__all__ = ["Linear", "LinearContinuous"]


@schedules.register("linear")
class Linear(PowerBetas):
    """beta linear in the timestep, 1e-4 to 0.02 (Ho et al. 2020; paper Eq. A3)."""

    power: ClassVar[int] = 1

    @property
    def continuous(self) -> LinearContinuous:
        """`linear-continuous` with beta(t) = T beta."""
        return LinearContinuous(beta_min=self.timesteps * self.beta_start, beta_max=self.timesteps * self.beta_end)


@schedules.register("linear-continuous")
class LinearContinuous(PolynomialContinuous):
    """beta(t) linear from 0.1 to 20, the VP process of Song et al. 2021 (paper Eq. A5).

    Attributes:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
    """

    beta_min: NonNegativeFloat = 0.1
    beta_max: PositiveFloat = 20.0

    @property
    def coefficients(self) -> tuple[float, float]:
        """beta_min + (beta_max - beta_min) t."""
        return self.beta_min, self.beta_max - self.beta_min

    def _t_of_integral(self, integral: Tensor) -> Tensor:
        # The root of b0 t + (b1 - b0) t^2/2 = B, in the form that subtracts nothing. Where beta_min = 0, B = 0 is 0/0.
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return 2 * integral / (self.beta_min + root).clamp(min=torch.finfo(torch.float64).tiny)
