"""DDPM's ancestral sampler and DDIM: one update with two numbers changed.

From time t to an earlier time s (alpha_s = 1, sigma_s = 0 after the last), with x0 and eps predicted at t:

    x_s = alpha_s x0 + sqrt(sigma_s^2 - eta_t^2) eps + eta_t z,   z ~ N(0, I)                     (DDIM, Song et al. Eq. 12)

DDPM's posterior mean is this with eta_t^2 = beta~_t, the posterior variance (sigma_s^2 / sigma_t^2) beta_t, where
beta_t = 1 - alpha_t^2 / alpha_s^2; paper Eq. 10 writes the same mean as
(alpha_s / alpha_t) (x_t - (beta_t / sigma_t) eps) and adds noise of variance beta_t.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from etsdm.denoiser import Predictor
from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource, Sampler, Step
from etsdm.samplers.grids import Grid, Leading, Respaced
from etsdm.schedules import Schedule

__all__ = ["DDIM", "DDPM"]


class Coefficients(NamedTuple):
    """x_s = x0 + eps + z, each times its coefficient; float64 scalars."""

    x0: Tensor
    eps: Tensor
    z: Tensor


class Ancestral(Sampler):
    """Steps x_s = a x0 + b eps + c z on a grid, from x0 that may be clipped."""

    clip_x0: bool = True
    grid: Grid = Leading()

    @abstractmethod
    def _coefficients(self, alpha: Tensor, sigma: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Coefficients:
        """For steps from (alpha, sigma) to (alpha_s, sigma_s), vectors of one entry a step."""

    def _trajectory(self, denoiser: Predictor, x: Tensor, noise: NoiseSource, cond: dict[str, Tensor]) -> Iterator[Step]:
        times = self.times(denoiser)
        alpha, sigma = denoiser.schedule.alpha_sigma(times)
        alpha_s = torch.cat([alpha[1:], alpha.new_ones(1)])
        sigma_s = torch.cat([sigma[1:], sigma.new_zeros(1)])
        table = [column.tolist() for column in self._coefficients(alpha, sigma, alpha_s, sigma_s)]
        for i, (t, a, b, c) in enumerate(zip(times.tolist(), *table, strict=True)):
            prediction = denoiser.predict(x, t, **cond)
            x0, eps = prediction.x0, prediction.eps
            if self.clip_x0:
                x0 = x0.clamp(-1, 1)
                eps = (x - float(alpha[i]) * x0) / float(sigma[i])
            x = a * x0 + b * eps
            if c > 0:
                x = x + c * noise.draw(x.shape[1:]).to(x)
            yield Step(i + 1, len(times), t, x, x0, i + 1)


@samplers.register("ddpm")
class DDPM(Ancestral):
    """Ancestral sampling with noise of variance beta_t or its posterior value (Ho et al. 2020; paper Eq. 10)."""

    steps: PositiveInt | None = None
    variance: Literal["beta", "posterior"] = "beta"
    grid: Grid = Respaced()

    def _times(self, schedule: Schedule) -> Tensor:
        return self.grid.times(schedule, self.steps or int(schedule.horizon))

    def _coefficients(self, alpha: Tensor, sigma: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Coefficients:
        beta = 1 - (alpha / alpha_s) ** 2
        # Noise of variance beta, except in the last step, which adds none.
        variance = beta * (sigma_s / sigma) ** 2 if self.variance == "posterior" else beta * (sigma_s > 0)
        # sqrt(sigma_s^2 - posterior variance) without its cancellation.
        eps = alpha / alpha_s * sigma_s**2 / sigma
        return Coefficients(alpha_s, eps, variance.sqrt())


@samplers.register("ddim")
class DDIM(Ancestral):
    """Denoising diffusion implicit models: deterministic at eta = 0, DDPM's posterior at eta = 1 (Song et al. 2021)."""

    steps: PositiveInt = 50
    eta: float = Field(0.0, ge=0, le=1)

    def _times(self, schedule: Schedule) -> Tensor:
        return self.grid.times(schedule, self.steps)

    def _coefficients(self, alpha: Tensor, sigma: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Coefficients:
        beta = 1 - (alpha / alpha_s) ** 2
        z = self.eta * sigma_s / sigma * beta.sqrt()
        return Coefficients(alpha_s, (sigma_s**2 - z**2).clamp(min=0).sqrt(), z)
