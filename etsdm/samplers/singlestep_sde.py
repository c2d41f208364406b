"""Stochastic DPM-Solver++ of two stages a step (Lu et al. 2022, as in k-diffusion).

In log-levels the probability-flow ODE of x0 prediction is solved exactly but for the change of x0 during a step; with x0'
predicted half-way in lambda,

    y_s = (down / k_t) y + (1 - down / k_t) x0' + up z = x0 + down eps + (1 - down / k_t) (x0' - x0) + up z.

`dpm-solver++-2s-ancestral` goes half-way to `down` and without noise; `dpm-solver++-sde` half-way to k_s, with noise of its own.
"""

from __future__ import annotations

from pydantic import PositiveInt

from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.network import Network
from etsdm.samplers.noise_level import Added, AncestralSampler, Leg, ancestral_split, level, midway

__all__ = ["DPMSolverPP2SAncestral", "DPMSolverPPSDE"]


@samplers.register("dpm-solver++-2s-ancestral")
class DPMSolverPP2SAncestral(AncestralSampler):
    """DPM-Solver++(2S) with the noise of ancestral sampling; at eta = 0 DPM-Solver++(2S) itself, of order 2 (k-diffusion).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: PositiveInt = 25

    def _added(self, leg: Leg, network: Network, noise: NoiseSource) -> Added | None:
        k = level(leg.t)
        mid = midway(network.schedule, k, leg.down)
        between = network(leg.said.mixed(mid.alpha, mid.sigma), mid)
        return Added("x0", [(1 - leg.down / k, between.x0)], order=2)


@samplers.register("dpm-solver++-sde")
class DPMSolverPPSDE(AncestralSampler):
    """Stochastic DPM-Solver++ with a stage half-way, which has noise of its own, independent of the step's (k-diffusion's `dpmpp_sde`).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: PositiveInt = 25

    def _added(self, leg: Leg, network: Network, noise: NoiseSource) -> Added | None:
        k = level(leg.t)
        mid = midway(network.schedule, k, level(leg.s))
        down, up = ancestral_split(k, level(mid), self.eta)
        x = leg.said.mixed(mid.alpha, mid.alpha * down)
        if up > 0:
            x.add_(noise.draw(x.shape[1:]).to(x), alpha=mid.alpha * up)
        between = network(x, mid)
        return Added("x0", [(1 - leg.down / k, between.x0)], order=2)
