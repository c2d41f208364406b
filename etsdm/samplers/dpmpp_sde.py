"""Stochastic DPM-Solver++ (Lu et al. 2022, as in k-diffusion): two multistep solvers, and two of two stages a step.

All work in lambda = -log(sigma/alpha), k-diffusion's `t`, with s = sigma/alpha.

Multistep, of one network call a step. With h = lambda_s - lambda_t, H = (1 + eta) h, and x0, x0_1, x0_2 predicted at t and at the one
and two points before it,

    y_s = e^-H y + (1 - e^-H) x0 + a + s_s sqrt(1 - e^(-2 eta h)) z,        so that sigma_down = s_s e^(-eta h)

    2M:   a = (1 - e^-H) / 2 h g,                                           g = (x0 - x0_1) / h_1, the slope of x0 before t
    3M:   a = phi_2 h (g + h_1 c) + phi_3 h^2 c,                            c = (g - g_1) / (h_1 + h_2)
          phi_2 = 1 - (1 - e^-H) / H,   phi_3 = 1/2 - phi_2 / H             and a = phi_2 h g without x0_2

where h_1, h_2 and g_1 are those of the steps before. The parabola through the three predictions would have 2 phi_3 in place of phi_3;
it is phi_3 in the code of DPM-Solver's authors and in what has followed it, and so here.

Of two stages a step. The probability-flow ODE of x0 prediction is solved exactly but for the change of x0 during a step; with x0_mid
predicted half-way in lambda,

    y_s = (sigma_down / s_t) y + (1 - sigma_down / s_t) x0_mid + sigma_up z.

`dpm-solver++-2s-ancestral` goes half-way to sigma_down and without noise; `dpm-solver++-sde` half-way to s_s, with noise of its own.
"""

from __future__ import annotations

import math

from pydantic import Field

from etsdm.denoisers.time_point import TimePoint
from etsdm.registry import samplers
from etsdm.registry.counts import Steps
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import (
    AncestralSampler,
    Correction,
    SigmaSampler,
    StepContext,
    ancestral_step,
    log_midpoint,
    mid_sigma,
    sigma_of,
)
from etsdm.samplers.step import NoiseSource

__all__ = ["DPMSolverPP2MSDE", "DPMSolverPP2SAncestral", "DPMSolverPP3MSDE", "DPMSolverPPSDE"]


class MultistepSDE(SigmaSampler):
    """Adds noise at a constant rate in lambda, eta times that of the reverse process.

    Attributes:
        eta: 0 for no noise, 1 for that of the reverse process (paper Eq. 3).
    """

    steps: Steps = 25
    eta: float = Field(1.0, ge=0)

    def _sigmas(self, t: TimePoint, s: TimePoint) -> tuple[float, float]:
        sigma_next, eta_h = sigma_of(s), self.eta * (s.lam - t.lam) if self.eta else 0.0
        return sigma_next * math.exp(-eta_h), sigma_next * math.sqrt(-math.expm1(-2 * eta_h))


@samplers.register("dpm-solver++-2m-sde")
class DPMSolverPP2MSDE(MultistepSDE):
    """DPM-Solver++(2M) of the reverse process, in its midpoint form (k-diffusion's `dpmpp_2m_sde`); of order 2 at eta = 0.

    `steps` steps of one network call each.
    """

    @property
    def _history_length(self) -> int:
        return 1

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        if not step.history:
            return None
        last, old = step.history[0]
        h = step.s.lam - step.t.lam
        # dpmpp_2m_sde: 0.5 (1 - exp(-h - eta h)) (1 / r) (denoised - old_denoised),   r = h_last / h
        weight = -math.expm1(-(1 + self.eta) * h) / 2 * h / (step.t.lam - last.lam)
        return Correction("x0", [(-weight, old.x0)], order=2)


@samplers.register("dpm-solver++-3m-sde")
class DPMSolverPP3MSDE(MultistepSDE):
    """DPM-Solver++(3M) of the reverse process (k-diffusion's `dpmpp_3m_sde`); of order 2 at eta = 0, see the module.

    `steps` steps of one network call each.
    """

    @property
    def _history_length(self) -> int:
        return 2

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        if not step.history:
            return None
        (one, denoised_1), *earlier = step.history
        h, h_1 = step.s.lam - step.t.lam, step.t.lam - one.lam
        H = (1 + self.eta) * h
        phi_2 = 1 + math.expm1(-H) / H
        d_weight = phi_2 * h / h_1
        if not earlier:
            return Correction("x0", [(-d_weight, denoised_1.x0)], order=2)  # phi_2 d,   d = (denoised - denoised_1) / r
        two, denoised_2 = earlier[0]
        h_2 = one.lam - two.lam
        # dpmpp_3m_sde: phi_2 d1 - phi_3 d2, gathered by denoised_1 and denoised_2
        c_weight = (phi_2 * h * h_1 + (0.5 - phi_2 / H) * h**2) / (h_1 + h_2)
        terms = [(-d_weight - c_weight / h_1 - c_weight / h_2, denoised_1.x0), (c_weight / h_2, denoised_2.x0)]
        return Correction("x0", terms, order=2)


@samplers.register("dpm-solver++-2s-ancestral")
class DPMSolverPP2SAncestral(AncestralSampler):
    """DPM-Solver++(2S) with the noise of ancestral sampling; at eta = 0 DPM-Solver++(2S) itself, of order 2 (k-diffusion).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: Steps = 25

    def _stage_sigma(self, t: TimePoint, s: TimePoint, n: int) -> float | None:
        return mid_sigma(self, t, s)

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        mid = step.stage
        assert mid is not None
        denoised_2 = model(step.prediction.combine(x0=mid.alpha, eps=mid.sigma), mid).x0
        # dpmpp_2s_ancestral: (sigma_down / sigma) x - expm1(-h) denoised_2
        return Correction("x0", [(1 - step.sigma_down / step.sigma, denoised_2)], order=2)


@samplers.register("dpm-solver++-sde")
class DPMSolverPPSDE(AncestralSampler):
    """Stochastic DPM-Solver++ with a stage half-way, which has noise of its own, independent of the step's (k-diffusion's `dpmpp_sde`).

    `steps` steps of two network calls each, but of one where the end is the clean image.
    """

    steps: Steps = 25

    def _stage_sigma(self, t: TimePoint, s: TimePoint, n: int) -> float | None:
        corrects = t.alpha > 0 and s.sigma > 0 and self._sigmas(t, s)[0] > 0
        return log_midpoint(sigma_of(t), sigma_of(s)) if corrects else None

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        mid = step.stage
        assert mid is not None
        sigma_down, sigma_up = ancestral_step(step.sigma, sigma_of(mid), self.eta)
        x_2 = step.prediction.combine(x0=mid.alpha, eps=mid.alpha * sigma_down)
        if sigma_up > 0:
            x_2.add_(noise.draw(x_2.shape[1:]).to(x_2), alpha=mid.alpha * sigma_up)
        # dpmpp_sde with r = 1/2: (sigma_down / sigma) x - expm1(-h) denoised_2
        return Correction("x0", [(1 - step.sigma_down / step.sigma, model(x_2, mid).x0)], order=2)
