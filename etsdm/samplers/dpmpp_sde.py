"""Stochastic DPM-Solver++ (Lu et al. 2022, as in k-diffusion): two multistep solvers, and two of two stages a step.

Multistep, of one network call a step.
With h = lambda_s - lambda_t, H = (1 + eta) h, and the answers x0, x0_1, x0_2 at t and at the one and two points before it,

    y_s = e^-H y + (1 - e^-H) x0 + a + k_s sqrt(1 - e^(-2 eta h)) z,        so that down = k_s e^(-eta h)

    2M:   a = (1 - e^-H) / 2 h g,                                           g = (x0 - x0_1) / h_1, the slope of x0 before t
    3M:   a = phi_2 h (g + h_1 c) + phi_3 h^2 c,                            c = (g - g_1) / (h_1 + h_2)
          phi_2 = 1 - (1 - e^-H) / H,   phi_3 = 1/2 - phi_2 / H             and a = phi_2 h g where x0_2 is not known yet

where h_1, h_2 and g_1 are those of the steps before. The parabola through the three answers would have 2 phi_3 in place of phi_3;
it is phi_3 in the code of DPM-Solver's authors and in what has followed it, and so here.

Of two stages a step.
In log-levels the probability-flow ODE of x0 prediction is solved exactly but for the change of x0 during a step; with x0'
predicted half-way in lambda,

    y_s = (down / k_t) y + (1 - down / k_t) x0' + up z = x0 + down eps + (1 - down / k_t) (x0' - x0) + up z.

`dpm-solver++-2s-ancestral` goes half-way to `down` and without noise; `dpm-solver++-sde` half-way to k_s, with noise of its own.
"""

from __future__ import annotations

import math

from pydantic import Field, PositiveInt

from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.model import CountedModel, Point
from etsdm.samplers.sigma_space import Added, AncestralSampler, Leg, NoiseLevelSampler, ancestral_split, level, midway

__all__ = ["DPMSolverPP2MSDE", "DPMSolverPP2SAncestral", "DPMSolverPP3MSDE", "DPMSolverPPSDE"]


class MultistepSDE(NoiseLevelSampler):
    """Adds noise at a constant rate in lambda, eta times that of the reverse process.

    Attributes:
        eta: 0 for no noise, 1 for that of the reverse process (paper Eq. 3).
    """

    steps: PositiveInt = 25
    eta: float = Field(1.0, ge=0)

    def _split(self, t: Point, s: Point) -> tuple[float, float]:
        k, spent = level(s), self.eta * (s.lam - t.lam) if self.eta else 0.0
        return k * math.exp(-spent), k * math.sqrt(-math.expm1(-2 * spent))


@samplers.register("dpm-solver++-2m-sde")
class DPMSolverPP2MSDE(MultistepSDE):
    """DPM-Solver++(2M) of the reverse process, in its midpoint form (k-diffusion's `dpmpp_2m_sde`); of order 2 at eta = 0.

    `steps` steps of one network call each.
    """

    @property
    def _memory(self) -> int:
        return 1

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        if not leg.past:
            return None
        before, answer = leg.past[0]
        h = leg.s.lam - leg.t.lam
        weight = -math.expm1(-(1 + self.eta) * h) / 2 * h / (leg.t.lam - before.lam)  # of g h_1 = x0 - x0_1
        return Added("x0", [(-weight, answer.x0)], order=2)


@samplers.register("dpm-solver++-3m-sde")
class DPMSolverPP3MSDE(MultistepSDE):
    """DPM-Solver++(3M) of the reverse process (k-diffusion's `dpmpp_3m_sde`); of order 2 at eta = 0, see the module.

    `steps` steps of one network call each.
    """

    @property
    def _memory(self) -> int:
        return 2

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        if not leg.past:
            return None
        (one, answer_1), *further = leg.past
        h, h_1 = leg.s.lam - leg.t.lam, leg.t.lam - one.lam
        H = (1 + self.eta) * h
        phi_2 = 1 + math.expm1(-H) / H
        of_slope = phi_2 * h / h_1  # the weight of g h_1 = x0 - x0_1
        if not further:
            return Added("x0", [(-of_slope, answer_1.x0)], order=2)
        two, answer_2 = further[0]
        h_2 = one.lam - two.lam
        of_bend = (phi_2 * h * h_1 + (0.5 - phi_2 / H) * h**2) / (h_1 + h_2)  # that of g - g_1, with g_1 h_2 = x0_1 - x0_2
        return Added("x0", [(-of_slope - of_bend / h_1 - of_bend / h_2, answer_1.x0), (of_bend / h_2, answer_2.x0)], order=2)


@samplers.register("dpm-solver++-2s-ancestral")
class DPMSolverPP2SAncestral(AncestralSampler):
    """DPM-Solver++(2S) with the noise of ancestral sampling; at eta = 0 DPM-Solver++(2S) itself, of order 2 (k-diffusion).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: PositiveInt = 25

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
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

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        k = level(leg.t)
        mid = midway(network.schedule, k, level(leg.s))
        down, up = ancestral_split(k, level(mid), self.eta)
        x = leg.said.mixed(mid.alpha, mid.alpha * down)
        if up > 0:
            x.add_(noise.draw(x.shape[1:]).to(x), alpha=mid.alpha * up)
        between = network(x, mid)
        return Added("x0", [(1 - leg.down / k, between.x0)], order=2)
