"""The quadratic schedule, `linear` in latent-diffusion's code and `scaled_linear` in diffusers, and its continuous limit."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from etsdm.registry import schedules
from etsdm.schedules.polynomial import PolynomialContinuous, PowerBetas

__all__ = ["Quadratic", "QuadraticContinuous"]


@schedules.register("quadratic")
class Quadratic(PowerBetas):
    """sqrt(beta) linear in the timestep, from sqrt(1e-4) to sqrt(0.02) (paper Eq. A4)."""

    power: ClassVar[int] = 2

    @property
    def continuous(self) -> QuadraticContinuous:
        """`quadratic-continuous` with beta(t) = T beta."""
        return QuadraticContinuous(beta_min=self.timesteps * self.beta_start, beta_max=self.timesteps * self.beta_end)


schedules.preset("ldm", Quadratic, "quadratic from 0.0015 to 0.0195 (Rombach et al. 2022)", beta_start=0.0015, beta_end=0.0195)
schedules.preset("sd", Quadratic, "quadratic from 0.00085 to 0.012 (Stable Diffusion)", beta_start=0.00085, beta_end=0.012)


@schedules.register("quadratic-continuous")
class QuadraticContinuous(PolynomialContinuous):
    """sqrt(beta(t)) linear, beta from 0.1 to 20 (paper Eq. A6).

    Attributes:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
    """

    beta_min: NonNegativeFloat = 0.1
    beta_max: PositiveFloat = 20.0

    @property
    def _roots(self) -> tuple[float, float]:
        a = math.sqrt(self.beta_min)
        return a, math.sqrt(self.beta_max) - a

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """(a + b t)^2 with a = sqrt(beta_min), a + b = sqrt(beta_max)."""
        a, b = self._roots
        return self.beta_min, 2 * a * b, b * b

    def _t_of_integral(self, integral: Tensor) -> Tensor:
        # u = a + b t is the cube root of a^3 + 3 b B, and t = (u - a)/b = 3 B/(u^2 + u a + a^2). Where beta_min = 0, B = 0 is 0/0.
        a, b = self._roots
        u = (a**3 + 3 * b * integral) ** (1 / 3)
        return 3 * integral / (u * u + a * u + a * a).clamp(min=torch.finfo(torch.float64).tiny)
