"""The midpoint method in sigma space, plain and ancestral (k-diffusion's `dpm_2`, after DPM-Solver-2).

With d_2 = eps predicted after Euler's step to sigma_mid, half-way to sigma_down in log sigma,

    y_s = y + d_2 (sigma_down - sigma) + sigma_up z.
"""

from __future__ import annotations

from etsdm.denoisers.time_point import TimePoint
from etsdm.registry import samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import AncestralSampler, Correction, SigmaSampler, StepContext, mid_sigma
from etsdm.samplers.step import NoiseSource

__all__ = ["DPM2", "DPM2Ancestral"]


@samplers.register("dpm2")
class DPM2(SigmaSampler):
    """The midpoint method for the probability-flow ODE in sigma/alpha, of order 2 (k-diffusion's `dpm_2`).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: Steps = 25

    def _stage_sigma(self, t: TimePoint, s: TimePoint, n: int) -> float | None:
        return mid_sigma(self, t, s)

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        return _midpoint(step, model)


@samplers.register("dpm2-ancestral")
class DPM2Ancestral(AncestralSampler):
    """`dpm2` with the noise of ancestral sampling; at eta = 0 it is `dpm2`. Calls are counted as for `dpm2`."""

    steps: Steps = 25

    def _stage_sigma(self, t: TimePoint, s: TimePoint, n: int) -> float | None:
        return mid_sigma(self, t, s)

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        return _midpoint(step, model)


def _midpoint(step: StepContext, model: CountedModel) -> Correction:
    mid = step.stage
    assert mid is not None
    x_2 = step.prediction.combine(x0=mid.alpha, eps=mid.sigma)  # x + d (sigma_mid - sigma)
    d_2 = model(x_2, mid).eps
    return Correction("eps", [(step.sigma_down - step.sigma, d_2)], order=2)  # x + d_2 (sigma_down - sigma)
