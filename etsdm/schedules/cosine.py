"""The cosine schedule of improved DDPM, and its continuous limit.

    alpha(t) = cos(th(t))/cos(th(0)),   th(t) = ((t + s)/(1 + s)) pi/2,
    sigma^2  = sin(th(t) - th(0)) sin(th(t) + th(0))/cos^2(th(0)),

the second line because cos^2 a - cos^2 b = sin(b - a) sin(a + b). Cosines are computed as sines of the complementary angle, so that
alpha keeps its digits as it vanishes. With s = 0, alpha = cos(pi t/2), sigma = sin(pi t/2), which is not singular.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from etsdm.registry import schedules
from etsdm.registry.counts import Timesteps
from etsdm.schedules.base import Continuous, Slope
from etsdm.schedules.discrete import FromBetas

__all__ = ["Cosine", "CosineContinuous"]


@schedules.register("cosine")
class Cosine(FromBetas):
    """alpha_bar = h(t)/h(0), h = cos^2(((t/T + s)/(1 + s)) pi/2), beta clipped (Nichol and Dhariwal 2021; paper Eq. A7).

    Attributes:
        timesteps: number of timesteps T.
        s: offset that bounds beta from below near t = 0; it makes the schedule singular there.
        max_beta: upper bound of beta, below 1 so that alpha stays above 0 at the end.
    """

    timesteps: Timesteps = 1000
    s: float = Field(0.008, ge=0)
    max_beta: float = Field(0.999, gt=0, lt=1)

    @property
    def betas(self) -> Tensor:
        """1 - alpha_bar(i+1)/alpha_bar(i), at most `max_beta`."""
        i = torch.arange(self.timesteps + 1, dtype=torch.float64)
        unit = math.pi / 2 / (1 + self.s) / self.timesteps
        angle, left = (i + self.s * self.timesteps) * unit, (self.timesteps - i) * unit
        # sin(a + b) = sin(pi - a - b), of which the smaller argument rounds less.
        total = torch.minimum(angle[1:] + angle[:-1], left[1:] + left[:-1])
        return (math.sin(unit) * torch.sin(total) / torch.sin(left[:-1]).square()).clamp(max=self.max_beta)

    @property
    def continuous(self) -> CosineContinuous:
        """`cosine-continuous` with the same offset; without clipping."""
        return CosineContinuous(s=self.s)


@schedules.register("cosine-continuous")
class CosineContinuous(Continuous):
    """alpha = cos(th(t))/cos(th(0)), th = ((t + s)/(1 + s)) pi/2 (Nichol and Dhariwal 2021; paper Eq. A8).

    Attributes:
        s: offset; 0 for a schedule that is not singular.
    """

    s: float = Field(0.008, ge=0)

    @property
    def _unit(self) -> float:
        """d th/dt."""
        return math.pi / 2 / (1 + self.s)

    @property
    def _start(self) -> float:
        """th(0)."""
        return self.s * self._unit

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale = math.sin(self._unit)  # cos(th(0))
        alpha = torch.sin((1 - t) * self._unit) / scale
        return alpha, torch.sqrt(torch.sin(t * self._unit) * torch.sin((t + 2 * self.s) * self._unit)) / scale

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, _ = self._alpha_sigma(t)
        slope = -self._unit * torch.sin((t + self.s) * self._unit) / math.sin(self._unit)
        return slope, -2 * alpha * slope

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        # b - a from its sine, sigma^2 cos^2 a/sin(a + b), and its cosine; sin(a + b) = cos a (alpha sin a + sin b).
        sin, cos = math.sin(self._start), math.sin(self._unit)
        alpha, variance = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid()
        sin_b = torch.sqrt(sin**2 + cos**2 * variance)
        # Where s = 0, sigma = 0 is 0/0.
        sine = cos * variance / (sin * alpha + sin_b).clamp(min=torch.finfo(torch.float64).tiny)
        return torch.atan2(sine, cos**2 * alpha + sin * sin_b) / self._unit

    def slope_at_zero(self) -> Slope:
        """sqrt(|alpha'(0)|/2) with |alpha'(0)| = th' tan(th(0)), singular; pi/2 for s = 0, not singular."""
        if self.s == 0:
            return Slope(self._unit, False)
        return Slope(math.sqrt(self._unit * math.tan(self._start) / 2), True)
