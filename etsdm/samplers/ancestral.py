"""The update that DDPM and DDIM share, with two numbers changed.

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
from typing import NamedTuple

from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import TimePoint
from etsdm.grids import Auto, Grid
from etsdm.samplers.base import Sampler
from etsdm.samplers.model import CountedModel
from etsdm.samplers.step import NoiseSource, StepResult

__all__ = ["Ancestral", "Coefficients", "beta_over_variance"]


class Coefficients(NamedTuple):
    """x_s = x0 + eps + z, each times its coefficient."""

    x0: float
    eps: float
    z: float


def beta_over_variance(t: TimePoint, s: TimePoint) -> float:
    """beta_t / sigma_t^2 = 1 - (s_s / s_t)^2 with s = sigma / alpha; 0 on the way to more noise."""
    return -math.expm1(2 * min(t.lam - s.lam, 0.0))


class Ancestral(Sampler):
    """Steps x_s = a x0 + b eps + c z on a grid, from x0 that may be clipped."""

    clip_x0: bool | None = None
    grid: Grid = Auto()

    @abstractmethod
    def _coefficients(self, t: TimePoint, s: TimePoint) -> Coefficients:
        """For the step from t to s."""

    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        for t, s in pairwise(path):
            prediction = model(x, t)
            a, b, c = self._coefficients(t, s)
            x = prediction.combine(x0=a, eps=b)
            if c > 0:
                self._add_noise(x, noise.draw(x.shape[1:]).to(x), prediction, t, s, c)
            yield StepResult(x, prediction)

    def _add_noise(self, x: Tensor, z: Tensor, prediction: Prediction, t: TimePoint, s: TimePoint, c: float) -> None:
        """Adds c z to x, in place."""
        x.add_(z, alpha=c)
