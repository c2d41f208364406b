"""Linear multistep in sigma space (Adams and Bashforth's method on unequal steps; k-diffusion's `lms`).

eps as a function of s = sigma/alpha is replaced by the polynomial through its values at t and at up to order - 1 points before it:

    y_s = y + sum_j c_j eps_j,   c_j = integral from s_t to s_s of prod_{i != j} (s - s_i) / (s_j - s_i) ds

As sum_j c_j = s_s - s_t, that is denoised + s_s eps + sum_j c_j (eps_j - eps), in which eps itself drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from etsdm.registry import samplers
from etsdm.samplers.model import CountedModel
from etsdm.samplers.sigma_space import Correction, SigmaSampler, StepContext, sigma_of
from etsdm.samplers.step import NoiseSource

__all__ = ["LMS"]


@samplers.register("lms")
class LMS(SigmaSampler):
    """Linear multistep for the probability-flow ODE in sigma/alpha (k-diffusion's `lms`).

    `steps` steps of one network call each; the last, to the clean image, uses earlier predictions as well. The first steps, which
    have few, are of a lower order: it is 2 in the limit of small steps, and `order` where the path starts so noisy that eps
    changes little in the first steps.

    Attributes:
        order: number of predictions that a step uses.
    """

    corrects_to_clean: ClassVar[bool] = True

    order: int = Field(4, ge=1, le=8)

    @property
    def _history_length(self) -> int:
        return self.order - 1

    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        if not step.history:
            return None
        sigmas = [step.sigma, *(sigma_of(point) for point, _ in step.history)]
        coefficients = _coefficients(sigmas, step.sigma_down)
        terms = [(c, prediction.eps) for c, (_, prediction) in zip(coefficients[1:], step.history, strict=True)]
        return Correction("eps", terms, order=len(sigmas))  # x + sum_j coeff_j d_j


def _coefficients(sigmas: Sequence[float], sigma_next: float) -> list[float]:
    """c_j of the predictions at several sigmas, for a step from the first of them to sigma_next."""
    nodes, weights = np.polynomial.legendre.leggauss(len(sigmas))  # exact for these polynomials
    half = (sigma_next - sigmas[0]) / 2
    s = sigmas[0] + half * (1 + nodes)
    others = [[s_i for i, s_i in enumerate(sigmas) if i != j] for j in range(len(sigmas))]
    lagrange = [np.prod([(s - s_i) / (s_j - s_i) for s_i in rest], axis=0) for s_j, rest in zip(sigmas, others, strict=True)]
    return [float(half * (weights * polynomial).sum()) for polynomial in lagrange]
