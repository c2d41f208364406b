"""Euler's method in sigma space, plain and ancestral: y_s = denoised + sigma_down eps + sigma_up z (see `etsdm.samplers.sigma_space`)."""

from __future__ import annotations

from etsdm.registry import samplers
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import AncestralSampler, Correction, SigmaSampler, StepContext
from etsdm.samplers.step import NoiseSource

__all__ = ["Euler", "EulerAncestral"]


@samplers.register("euler")
class Euler(SigmaSampler):
    """Euler's method for the probability-flow ODE in sigma/alpha, of order 1: DDIM's update (Karras et al. 2022).

    `steps` steps of one network call each.
    """

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        return None  # sample_euler: x + d (sigma_next - sigma)


@samplers.register("euler-ancestral")
class EulerAncestral(AncestralSampler):
    """Euler's method with the noise of ancestral sampling, as in k-diffusion; at eta = 1 DDPM's posterior.

    `steps` steps of one network call each.
    """

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        return None  # sample_euler_ancestral: x + d (sigma_down - sigma) + noise sigma_up
