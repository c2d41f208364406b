"""Modified-NS: schedules with alpha'(0) = 0, whose sigma is not singular (paper section D.3.2).

linear and quadratic with beta_start = 0, on the grid `paper`, on which every timestep has noise; cosine with s = 0. The quadratic one
has a larger last beta, which keeps the SNR at T:

    discrete:    sum_i log(1 - beta_T' u_i^2) = sum_i log(1 - beta_i),
    continuous:  beta_T'/3 = B(1) = (beta_0 + sqrt(beta_0 beta_T) + beta_T)/3 = (20.1 + sqrt 2)/3.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from etsdm.registry import schedules
from etsdm.registry.counts import Timesteps
from etsdm.schedules.cosine import Cosine, CosineContinuous
from etsdm.schedules.discrete import FromBetas
from etsdm.schedules.linear import Linear, LinearContinuous
from etsdm.schedules.quadratic import Quadratic, QuadraticContinuous

__all__ = ["ModifiedQuadratic"]


@schedules.register("modified-quadratic")
class ModifiedQuadratic(FromBetas):
    """beta quadratic in the timestep from 0, ending with the SNR of `quadratic` (paper section D.3.2).

    Attributes:
        timesteps: number of timesteps T.
        beta_start, beta_end: first and last beta of the quadratic schedule whose last SNR is kept, on the same grid.
        grid: `paper`, beta[i] = ((i+1)/T)^2 beta_T', or `linspace-from-zero`, (i/(T-1))^2 beta_T', where sigma[0] is 0 and eps
            undefined; the latter only for comparison with published results on such schedules.
    """

    timesteps: Timesteps = Field(1000, ge=2)
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    grid: Literal["paper", "linspace-from-zero"] = "paper"

    @property
    def _original(self) -> Quadratic:
        grid = "paper" if self.grid == "paper" else "linspace"
        return Quadratic(timesteps=self.timesteps, beta_start=self.beta_start, beta_end=self.beta_end, grid=grid)

    @property
    def betas(self) -> Tensor:
        """Squares of equally spaced numbers, scaled to keep the last SNR, float64, (T,)."""
        from scipy.optimize import brentq  # here, because it takes longer to import than all schedules together

        unit = torch.linspace(0, 1, self.timesteps + (self.grid == "paper"), dtype=torch.float64)[-self.timesteps :].square()
        whole = torch.log1p(-self._original.betas).sum().item()
        last: float = brentq(lambda beta: torch.log1p(-beta * unit).sum().item() - whole, 0.0, math.nextafter(1, 0), xtol=1e-16)
        return last * unit

    @property
    def continuous(self) -> QuadraticContinuous:
        """`quadratic-continuous` from beta 0 with the same B(1) as the quadratic schedule."""
        start, end = self.timesteps * self.beta_start, self.timesteps * self.beta_end
        return QuadraticContinuous(beta_min=0.0, beta_max=start + math.sqrt(start * end) + end)


schedules.preset("modified-linear", Linear, "linear from beta 0 (paper section D.3.2)", beta_start=0.0, grid="paper")
schedules.preset("modified-cosine", Cosine, "cosine without offset (paper section D.3.2)", s=0.0)
schedules.preset("modified-linear-continuous", LinearContinuous, "linear-continuous from beta 0 (paper section D.3.2)", beta_min=0.0)
schedules.preset(
    "modified-quadratic-continuous",
    QuadraticContinuous,
    "quadratic-continuous from beta 0 with the same last SNR (paper section D.3.2)",
    beta_min=0.0,
    beta_max=20.1 + math.sqrt(2),
)
schedules.preset("modified-cosine-continuous", CosineContinuous, "cosine-continuous without offset (paper section D.3.2)", s=0.0)
