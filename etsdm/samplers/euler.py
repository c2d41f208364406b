"""Euler's method in the noise level, plain and ancestral: y_s = x0 + down eps + up z (see `etsdm.samplers.sigma_space`)."""

from __future__ import annotations

from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Added, AncestralSampler, Leg, NoiseLevelSampler

__all__ = ["Euler", "EulerAncestral"]


@samplers.register("euler")
class Euler(NoiseLevelSampler):
    """Euler's method for the probability-flow ODE in sigma/alpha, of order 1: DDIM's update (Karras et al. 2022).

    `steps` steps of one network call each.
    """

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        return None


@samplers.register("euler-ancestral")
class EulerAncestral(AncestralSampler):
    """Euler's method with the noise of ancestral sampling, as in k-diffusion; at eta = 1 DDPM's posterior.

    `steps` steps of one network call each.
    """

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        return None
