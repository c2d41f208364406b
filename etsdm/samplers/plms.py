"""Pseudo linear multistep (PLMS; Liu et al. 2022, in the form of latent diffusion's code).

DDIM's step with a combination e of the noise predicted at equal distances of time, eps at t and eps_1, eps_2, eps_3 before it:

    y_s = y + (k_s - k_t) e = x0 + k_s eps + (k_s - k_t) (e - eps)
    e   = (eps + eps') / 2                                          in the first step, eps' predicted after DDIM's step to s
          (3 eps - eps_1) / 2,   (23 eps - 16 eps_1 + 5 eps_2) / 12      in the second and the third (Adams and Bashforth)
          (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24                  from the fourth on
"""

from __future__ import annotations

from typing import ClassVar

from etsdm.grids import Grid, Leading
from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Added, Leg, NoiseLevelSampler, level

__all__ = ["PLMS"]

# Weights of eps_1, eps_2, ... in e - eps, by how many of them are known; each is taken relative to eps.
ADAMS_BASHFORTH = {1: (-1 / 2,), 2: (-16 / 12, 5 / 12), 3: (-59 / 24, 37 / 24, -9 / 24)}


@samplers.register("plms")
class PLMS(NoiseLevelSampler):
    """Pseudo linear multistep of order 2 (Liu et al. 2022), in the form of latent diffusion's code.

    `steps` steps of one network call each, but of two for the first: steps + 1 calls, unless there is one step only. Its
    weights are those of equal steps in time, which `leading`, `uniform` and `linspace` have.
    """

    corrects_to_clean: ClassVar[bool] = True

    grid: Grid = Leading()

    @property
    def _memory(self) -> int:
        return 3

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        dk = leg.down - level(leg.t)
        if not leg.past:
            if leg.s.sigma == 0:
                return None
            ahead = network(leg.said.mixed(leg.s.alpha, leg.s.sigma), leg.s)
            return Added("eps", [(dk / 2, ahead.eps)], order=2)
        weights = ADAMS_BASHFORTH[len(leg.past)]
        return Added("eps", [(dk * w, answer.eps) for w, (_, answer) in zip(weights, leg.past, strict=True)], order=2)
