"""DDPM's ancestral sampler and DDIM: one update with two numbers changed.

From time t to an earlier time s (alpha_s = 1, sigma_s = 0 after the last), with x0 and eps predicted at t:

    x_s = alpha_s x0 + sqrt(sigma_s^2 - eta_t^2) eps + eta_t z,   z ~ N(0, I)                     (DDIM, Song et al. Eq. 12)

DDPM's posterior mean is this with eta_t^2 = beta~_t, the posterior variance (sigma_s^2 / sigma_t^2) beta_t, where
beta_t = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2 is the variance of q(x_t | x_s), 1 - alpha_t^2 / alpha_s^2 where the schedule
preserves variance; paper Eq. 10 writes the same mean as
(alpha_s / alpha_t) (x_t - (beta_t / sigma_t) eps) and adds noise of variance beta_t.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import Field, PositiveInt
from torch import Tensor

from etsdm.learned_variance import learned_log_variance
from etsdm.registry import samplers
from etsdm.samplers.base import Moved, NoiseSource, Sampler
from etsdm.samplers.grids import Grid, Leading, Respaced
from etsdm.samplers.network import Answer, Network, Point

__all__ = ["DDIM", "DDPM"]


class Coefficients(NamedTuple):
    """x_s = x0 + eps + z, each times its coefficient."""

    x0: float
    eps: float
    z: float


def _lost(t: Point, s: Point) -> float:
    """beta_t / sigma_t^2 = 1 - (k_s / k_t)^2, k = sigma / alpha; 0 on the way up, where nothing is lost."""
    return -math.expm1(2 * min(t.lam - s.lam, 0.0))


class Ancestral(Sampler):
    """Steps x_s = a x0 + b eps + c z on a grid, from x0 that may be clipped."""

    clip_x0: bool | None = None
    grid: Grid = Leading()

    @abstractmethod
    def _coefficients(self, t: Point, s: Point) -> Coefficients:
        """For the step from t to s."""

    def _steps(self, network: Network, path: Sequence[Point], x: Tensor, noise: NoiseSource) -> Iterator[Moved]:
        for t, s in pairwise(path):
            said = network(x, t)
            a, b, c = self._coefficients(t, s)
            x = said.mixed(a, b)
            if c > 0:
                self._add_noise(x, noise.draw(x.shape[1:]).to(x), said, t, s, c)
            yield Moved(x, said)

    def _add_noise(self, x: Tensor, z: Tensor, said: Answer, t: Point, s: Point, c: float) -> None:
        """Adds c z to x, in place."""
        x.add_(z, alpha=c)


@samplers.register("ddpm")
class DDPM(Ancestral):
    """Ancestral sampling with noise of variance beta_t or its posterior value (Ho et al. 2020; paper Eq. 10).

    Attributes:
        steps: how many; None for every timestep up to the start, of a continuous schedule a thousand of them.
        variance: of a step's noise: `beta`, `posterior`, or `learned`, between the two, by a network that learns it.
    """

    steps: PositiveInt | None = None
    variance: Literal["beta", "posterior", "learned"] = "beta"
    grid: Grid = Respaced()

    def _coefficients(self, t: Point, s: Point) -> Coefficients:
        # Noise of variance beta, except in the last step, which adds none.
        variance = _lost(t, s) * (s.sigma**2 if self.variance == "posterior" else t.sigma**2 * (s.sigma > 0))
        # sqrt(sigma_s^2 - posterior variance) without its cancellation.
        return Coefficients(s.alpha, t.alpha / s.alpha * s.sigma**2 / t.sigma, math.sqrt(variance))

    def _add_noise(self, x: Tensor, z: Tensor, said: Answer, t: Point, s: Point, c: float) -> None:
        if self.variance != "learned":
            super()._add_noise(x, z, said, t, s, c)
            return
        if said.variance_logit is None:
            raise ValueError("variance: 'learned', but the network learns none; give beta or posterior")
        # c^2 is beta.
        log_beta, log_posterior = (x.new_tensor(2 * math.log(value)) for value in (c, c * s.sigma / t.sigma))
        x.addcmul_((0.5 * learned_log_variance(said.variance_logit, log_beta, log_posterior)).exp().to(x.dtype), z)


@samplers.register("ddim")
class DDIM(Ancestral):
    """Denoising diffusion implicit models: deterministic at eta = 0, DDPM's posterior at eta = 1 (Song et al. 2021)."""

    steps: PositiveInt = 50
    eta: float = Field(0.0, ge=0, le=1)

    def _coefficients(self, t: Point, s: Point) -> Coefficients:
        z = self.eta * s.sigma * math.sqrt(_lost(t, s)) if self.eta else 0.0
        return Coefficients(s.alpha, math.sqrt(max(s.sigma**2 - z**2, 0.0)), z)
