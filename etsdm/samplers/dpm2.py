"""The midpoint method in the noise level, plain and ancestral (k-diffusion's `dpm_2`, after DPM-Solver-2).

With eps' predicted after Euler's step to the level half-way to `down` in its logarithm,

    y_s = y + (down - k_t) eps' + up z = x0 + down eps + (down - k_t) (eps' - eps) + up z.
"""

from __future__ import annotations

from pydantic import PositiveInt

from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Added, AncestralSampler, Leg, NoiseLevelSampler, level, midway

__all__ = ["DPM2", "DPM2Ancestral"]


@samplers.register("dpm2")
class DPM2(NoiseLevelSampler):
    """The midpoint method for the probability-flow ODE in sigma/alpha, of order 2 (k-diffusion's `dpm_2`).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: PositiveInt = 25

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        return _midpoint(leg, network)


@samplers.register("dpm2-ancestral")
class DPM2Ancestral(AncestralSampler):
    """`dpm2` with the noise of ancestral sampling; at eta = 0 it is `dpm2`. Calls are counted as for `dpm2`."""

    steps: PositiveInt = 25

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        return _midpoint(leg, network)


def _midpoint(leg: Leg, network: CountedModel) -> Added:
    k = level(leg.t)
    mid = midway(network.schedule, k, leg.down)
    between = network(leg.said.mixed(mid.alpha, mid.sigma), mid)
    return Added("eps", [(leg.down - k, between.eps)], order=2)
