"""Linear multistep in the noise level (Adams and Bashforth's method on unequal steps; k-diffusion's `lms`).

eps as a function of k is replaced by the polynomial through the answers at t and at up to order - 1 points before it:

    y_s = y + sum_j c_j eps_j,   c_j = integral from k_t to k_s of prod_{i != j} (k - k_i) / (k_j - k_i) dk

As sum_j c_j = k_s - k_t, that is x0 + k_s eps + sum_j c_j (eps_j - eps), in which eps itself drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from etsdm.registry import samplers
from etsdm.samplers.base import NoiseSource
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Added, Leg, NoiseLevelSampler, level

__all__ = ["LMS"]


@samplers.register("lms")
class LMS(NoiseLevelSampler):
    """Linear multistep for the probability-flow ODE in sigma/alpha (k-diffusion's `lms`).

    `steps` steps of one network call each; the last, to the clean image, looks at earlier answers as well. The first steps, which
    know few, are of a lower order: it is 2 in the limit of small steps, and `order` where the path starts so noisy that the
    first steps have nothing to bend.

    Attributes:
        order: how many answers a step looks at.
    """

    corrects_to_clean: ClassVar[bool] = True

    order: int = Field(4, ge=1, le=8)

    @property
    def _memory(self) -> int:
        return self.order - 1

    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        if not leg.past:
            return None
        levels = [level(leg.t), *(level(point) for point, _ in leg.past)]
        coefficients = _coefficients(levels, leg.down)
        return Added("eps", [(c, answer.eps) for c, (_, answer) in zip(coefficients[1:], leg.past, strict=True)], order=len(levels))


def _coefficients(levels: Sequence[float], k_s: float) -> list[float]:
    """c_j for the answers at some levels, of a step from the first of them to k_s."""
    nodes, weights = np.polynomial.legendre.leggauss(len(levels))  # exact for these polynomials
    half = (k_s - levels[0]) / 2
    k = levels[0] + half * (1 + nodes)
    others = [[k_i for i, k_i in enumerate(levels) if i != j] for j in range(len(levels))]
    lagrange = [np.prod([(k - k_i) / (k_j - k_i) for k_i in rest], axis=0) for k_j, rest in zip(levels, others, strict=True)]
    return [float(half * (weights * polynomial).sum()) for polynomial in lagrange]
