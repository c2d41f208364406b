"""Heun's method in the noise level, and its stochastic form (Karras et al. 2022, algorithm 2).

From level k_t to k_s, with eps' predicted at the end of Euler's step,

    y_s = y + (k_s - k_t) (eps + eps') / 2 = x0 + k_s eps + (k_s - k_t) (eps' - eps) / 2.

The stochastic form adds noise before a step: y^ = y + sqrt(k^2 - k_t^2) s_noise z with k^ = (1 + gamma) k_t, and starts from there.
"""

from __future__ import annotations

import math

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.model import CountedModel, Point
from etsdm.samplers.sigma_space import Added, Leg, NoiseLevelSampler, at_level, level

__all__ = ["EDMStochastic", "Heun"]


@samplers.register("heun")
class Heun(NoiseLevelSampler):
    """Heun's method for the probability-flow ODE in sigma/alpha, of order 2 (Karras et al. 2022, algorithm 2 without churn).

    `steps` steps of two network calls each, but of one where the end is the clean image: 2 steps - 1 calls.
    """

    steps: PositiveInt = 18

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        ahead = network(leg.said.mixed(leg.s.alpha, leg.s.sigma), leg.s)
        return Added("eps", [((leg.down - level(leg.t)) / 2, ahead.eps)], order=2)


@samplers.register("edm-stochastic")
class EDMStochastic(Heun):
    """Heun's method with churn: some noise is added before each step (Karras et al. 2022, algorithm 2).

    With churn, noise is drawn at every step, used or not, as in the original. No step starts above the schedule's last noise level,
    where no network was trained. The defaults are those of the authors for ImageNet at 64x64; calls are counted as for `heun`.

    Attributes:
        churn: noise of all steps together; a step's level grows by churn / n of itself, or by sqrt(2) - 1 if that is less.
        s_min: noise levels sigma/alpha below it are not churned.
        s_max: nor are those above it.
        s_noise: standard deviation of the noise that is added.
    """

    steps: PositiveInt = 256
    churn: NonNegativeFloat = 40.0
    s_min: NonNegativeFloat = 0.05
    s_max: NonNegativeFloat = 50.0
    s_noise: NonNegativeFloat = 1.003

    def _start(self, network: CountedModel, t: Point, x: Tensor, noise: NoiseSource, n: int) -> tuple[Point, Tensor]:
        if self.churn == 0:
            return t, x
        z = noise.draw(x.shape[1:])
        k = level(t)
        gamma = min(self.churn / n, math.sqrt(2) - 1)
        if not (self.s_min <= k <= self.s_max and t.alpha > 0):
            return t, x
        noisier = at_level(network.schedule, (1 + gamma) * k)
        added = math.sqrt(max(level(noisier) ** 2 - k**2, 0.0))
        return noisier, noisier.alpha / t.alpha * x + noisier.alpha * added * self.s_noise * z.to(x)
