"""Heun's method in sigma space, and its stochastic form (Karras et al. 2022, algorithm 2).

From sigma to sigma_next, with d_2 = eps predicted at the end of Euler's step,

    y_s = y + (sigma_next - sigma) (d + d_2) / 2.

The stochastic form adds noise before a step: y^ = y + sqrt(sigma^^2 - sigma^2) s_noise z with sigma^ = (1 + gamma) sigma, and starts
from there.
"""

from __future__ import annotations

import math

from pydantic import NonNegativeFloat
from torch import Tensor

from etsdm.denoisers.time_point import TimePoint
from etsdm.registry import samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Correction, SigmaSampler, StepContext, sigma_of
from etsdm.samplers.step import NoiseSource

__all__ = ["EDMStochastic", "Heun"]


@samplers.register("heun")
class Heun(SigmaSampler):
    """Heun's method for the probability-flow ODE in sigma/alpha, of order 2 (Karras et al. 2022, algorithm 2 without churn).

    `steps` steps of two network calls each, but of one where the end is the clean image: 2 steps - 1 calls.
    """

    steps: Steps = 18

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        x_2 = step.prediction.combine(x0=step.s.alpha, eps=step.s.sigma)  # x + d dt
        d_2 = model(x_2, step.s).eps
        return Correction("eps", [((step.sigma_down - step.sigma) / 2, d_2)], order=2)  # x + (d + d_2) / 2 dt


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

    steps: Steps = 256
    churn: NonNegativeFloat = 40.0
    s_min: NonNegativeFloat = 0.05
    s_max: NonNegativeFloat = 50.0
    s_noise: NonNegativeFloat = 1.003

    def _stage_sigma(self, t: TimePoint, s: TimePoint, n: int) -> float | None:
        sigma = sigma_of(t)
        if self.churn == 0 or not (self.s_min <= sigma <= self.s_max and t.alpha > 0):
            return None
        return (1 + min(self.churn / n, math.sqrt(2) - 1)) * sigma  # (1 + gamma) sigma

    def _start(self, t: TimePoint, stage: TimePoint | None, x: Tensor, noise: NoiseSource) -> tuple[TimePoint, Tensor]:
        if self.churn == 0:
            return t, x
        z = noise.draw(x.shape[1:])
        if stage is None:
            return t, x
        added = math.sqrt(max(sigma_of(stage) ** 2 - sigma_of(t) ** 2, 0.0))
        return stage, stage.alpha / t.alpha * x + stage.alpha * added * self.s_noise * z.to(x)
