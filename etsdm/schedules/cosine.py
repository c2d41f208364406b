"""The cosine schedule of improved DDPM."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from etsdm.registry import schedules
from etsdm.schedules.base import Discrete

__all__ = ["Cosine"]


@schedules.register("cosine")
class Cosine(Discrete):
    """alpha_bar = h(t)/h(0), h = cos^2(((t/T + s)/(1 + s)) pi/2), beta clipped (Nichol and Dhariwal 2021; paper Eq. A7)."""

    s: float = Field(0.008, ge=0)
    max_beta: float = Field(0.999, gt=0, lt=1)

    @property
    def betas(self) -> Tensor:
        """1 - alpha_bar(i+1)/alpha_bar(i), at most `max_beta`."""
        t = torch.arange(self.timesteps + 1, dtype=torch.float64) / self.timesteps
        h = torch.cos((t + self.s) / (1 + self.s) * math.pi / 2) ** 2
        return (1 - h[1:] / h[:-1]).clamp(max=self.max_beta)
