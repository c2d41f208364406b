"""The reverse process of Gaussian data, step by step without an error.

For data N(m, std^2 I) the clean image given x_t is N(x0, C I), of which the network predicts the mean, and C follows from std. The
posterior q(x_s | x_t, x0) of the forward process, averaged over it, is again Gaussian (Bao et al. 2022, Analytic-DPM):

    C   = std^2 sigma_t^2 / (alpha_t^2 std^2 + sigma_t^2),   q = exp(lambda_t - lambda_s) = k_s / k_t
    x_s = alpha_s x0 + sigma_s q eps + sqrt(sigma_s^2 (1 - q^2) + alpha_s^2 (1 - q^2)^2 C) z,   z ~ N(0, I)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pydantic import NonNegativeFloat
from torch import Tensor

from etsdm.denoisers.time_point import TimePoint
from etsdm.registry import samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.base import Sampler
from etsdm.samplers.model import CountedModel
from etsdm.samplers.step import NoiseSource, StepResult

__all__ = ["Analytic"]


@samplers.register("analytic")
class Analytic(Sampler):
    """Draws x_s from q(x_s | x_t) exactly where the data are N(m, std^2 I) and the network is the optimal one, in any number of steps.

    The clean image of the last step is drawn from q(x0 | x_t) too, which adds noise as wide as sigma at the last time: 0.01 on `linear`,
    0.0387 on `ldm`. For other data it is ancestral sampling with too wide or too narrow a noise; at std = 0 it is DDPM with the
    posterior variance, and the last step adds none. `steps` steps of one network call each.

    Attributes:
        std: standard deviation of the clean data.
    """

    steps: Steps = 10
    std: NonNegativeFloat = 1.0

    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        for t, s in pairwise(path):
            prediction = model(x, t)
            variance_ratio = -math.expm1(2 * (t.lam - s.lam))  # 1 - q^2
            spread = self._spread(t)
            z = math.hypot(s.sigma * math.sqrt(variance_ratio), s.alpha * variance_ratio * spread)
            x = prediction.combine(x0=s.alpha, eps=s.sigma * math.exp(t.lam - s.lam))
            if z > 0:
                x.add_(noise.draw(x.shape[1:]).to(x), alpha=z)
            yield StepResult(x, prediction)

    def noise_left(self, path: Sequence[TimePoint]) -> float:
        """Standard deviation of the clean image given x_t of the last step, or sigma/alpha at a `t_end`."""
        return self._spread(path[-2]) if path[-1].sigma == 0 else super().noise_left(path)

    def _spread(self, t: TimePoint) -> float:
        """sqrt(C) at t."""
        return self.std * t.sigma / math.hypot(t.alpha * self.std, t.sigma)
