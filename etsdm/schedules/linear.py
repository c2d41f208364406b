"""The linear schedule of DDPM."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from etsdm.registry import schedules
from etsdm.schedules.base import Discrete

__all__ = ["Linear"]


@schedules.register("linear")
class Linear(Discrete):
    """beta linear in the timestep, 1e-4 to 0.02 (Ho et al. 2020; paper Eq. A3)."""

    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)

    @property
    def betas(self) -> Tensor:
        """Equally spaced from `beta_start` to `beta_end`."""
        return torch.linspace(self.beta_start, self.beta_end, self.timesteps, dtype=torch.float64)
