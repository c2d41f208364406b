"""Pseudo linear multistep (PLMS; Liu et al. 2022, in the form of latent diffusion's code).

DDIM's step with a combination e of the noise predicted at equal distances of time, eps at t and eps_1, eps_2, eps_3 before it:

    y_s = y + (s_s - s_t) e = denoised + s_s eps + (s_s - s_t) (e - eps),   s = sigma/alpha
    e   = (eps + eps') / 2                                          in the first step, eps' predicted after DDIM's step to s
          (3 eps - eps_1) / 2,   (23 eps - 16 eps_1 + 5 eps_2) / 12      in the second and the third (Adams and Bashforth)
          (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24                  from the fourth on
"""

from __future__ import annotations

from typing import ClassVar

from etsdm.grids import Auto, Grid
from etsdm.registry import samplers
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Correction, SigmaSampler, StepContext
from etsdm.samplers.step import NoiseSource

__all__ = ["PLMS"]

# Weights of eps_1, eps_2, ... in e - eps, by the length of the history; each is taken relative to eps.
ADAMS_BASHFORTH = {1: (-1 / 2,), 2: (-16 / 12, 5 / 12), 3: (-59 / 24, 37 / 24, -9 / 24)}


@samplers.register("plms")
class PLMS(SigmaSampler):
    """Pseudo linear multistep of order 2 (Liu et al. 2022), in the form of latent diffusion's code.

    `steps` steps of one network call each, but of two for the first: steps + 1 calls, unless there is one step only. Its
    weights are those of equal steps in time, which `leading`, `trailing`, `uniform` and `linspace` have.
    """

    corrects_to_clean: ClassVar[bool] = True

    grid: Grid = Auto()

    @property
    def _history_length(self) -> int:
        return 3

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        dt = step.sigma_down - step.sigma
        if not step.history:
            if step.s.sigma == 0:
                return None
            x_next = step.prediction.combine(x0=step.s.alpha, eps=step.s.sigma)
            return Correction("eps", [(dt / 2, model(x_next, step.s).eps)], order=2)  # e_t_prime = (e_t + e_t_next) / 2
        weights = ADAMS_BASHFORTH[len(step.history)]
        # e_t_prime = (3 e_t - old_eps[-1]) / 2, and so on.
        return Correction("eps", [(dt * w, old.eps) for w, (_, old) in zip(weights, step.history, strict=True)], order=2)
