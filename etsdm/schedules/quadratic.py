"""The quadratic schedule, which latent-diffusion's code calls linear and diffusers scaled_linear."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from etsdm.registry import schedules
from etsdm.schedules.base import Discrete

__all__ = ["Quadratic"]


@schedules.register("quadratic")
class Quadratic(Discrete):
    """sqrt(beta) linear in the timestep, from sqrt(1e-4) to sqrt(0.02) (paper Eq. A4)."""

    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)

    @property
    def betas(self) -> Tensor:
        """Squares of equally spaced roots from sqrt(`beta_start`) to sqrt(`beta_end`)."""
        return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.timesteps, dtype=torch.float64) ** 2
