"""Exponential integrators in lambda = log(alpha/sigma), the base of DPM-Solver, DPM-Solver++ and UniPC.

With lambda, half of log-SNR, the probability-flow ODE has a linear part that is solved exactly, and what is left is an integral of the
model output m, noise or data prediction, from s to t, h = lambda_t - lambda_s (Lu et al. 2022a, proposition 3.1; 2022b, 4.1):

    m = eps:   x_t = alpha_t/alpha_s x_s - sigma_t I(h),      m = x0:   x_t = sigma_t/sigma_s x_s - alpha_t I(-h),
    I(h) = (e^h - 1) m_s + sum_j w_j (m_j - m_s).

m_j is the output at lambda_s + r_j |h|. Replacing m by the polynomial through these values fixes the weights by their moments,

    sum_j w_j r_j^k = M_k = k! h phi_{k+1}(h),   k = 1, 2, ..., as many as there are j,

    phi_1(h) = (e^h - 1)/h,   phi_{k+1}(h) = (phi_k(h) - 1/k!)/h.

Solvers differ in where m is evaluated, and some take simpler moments that agree with these to the order that they need. Without any m_j
the update is DDIM's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from etsdm.denoisers.time_point import TimePoint
from etsdm.samplers.step import Predicted

__all__ = ["ExponentialStep", "ModelValue", "exact_moments", "has_finite_step", "phi", "weights_at"]


def phi(k: int, h: float) -> float:
    """phi_k(h) for k = 1, 2, ..., without cancellation near h = 0."""
    if abs(h) < 1:
        return sum(h**j / math.factorial(j + k) for j in range(18))
    value = math.expm1(h) / h
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / h
    return value


def exact_moments(h: float, count: int) -> list[float]:
    """M_1, ..., M_count of the interpolating polynomial."""
    return [math.factorial(k) * h * phi(k + 1, h) for k in range(1, count + 1)]


def weights_at(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """w with sum_j w_j r_j^k = M_k for k = 1, ..., one for each node r_j."""
    if len(nodes) < 2:
        return [moment / node for node, moment in zip(nodes, moments, strict=True)]
    powers = np.array([[node**k for node in nodes] for k in range(1, len(nodes) + 1)])
    solution: list[float] = np.linalg.solve(powers, np.array(moments)).tolist()
    return solution


def has_finite_step(s: TimePoint, t: TimePoint) -> bool:
    """Whether lambda rises by a finite amount from s to t; if not, DDIM's update is the limit of all solvers."""
    return math.isfinite(t.lam - s.lam)


class ModelValue(NamedTuple):
    """A model output at a lambda. Fields: lam; m, eps or x0, (B, C, H, W)."""

    lam: float
    m: Tensor


class ExponentialStep(NamedTuple):
    """The exactly solved part of a step between two points, between which lambda rises by a finite amount.

    Fields: lam, lambda_s; length, lambda_t - lambda_s; h, the same or its negative, the argument of I; x_weight and model_weight, the
    coefficients of x_s and of -I(h).
    """

    lam: float
    length: float
    h: float
    x_weight: float
    model_weight: float

    @classmethod
    def between(cls, s: TimePoint, t: TimePoint, predicts: Predicted) -> ExponentialStep:
        """From s to t, by noise prediction (`eps`) or data prediction (`x0`)."""
        length = t.lam - s.lam
        if predicts == "eps":
            return cls(s.lam, length, length, t.alpha / s.alpha, t.sigma)
        return cls(s.lam, length, -length, t.sigma / s.sigma, t.alpha)

    def apply(self, x: Tensor, values: Sequence[ModelValue], moments: Sequence[float]) -> Tensor:
        """x_t.

        Args:
            x: x_s, (B, C, H, W).
            values: model outputs, at s and then elsewhere.
            moments: M_1, ..., one for each value elsewhere.
        """
        return self.weighted(x, values, weights_at(self.nodes(values), moments))

    def nodes(self, values: Sequence[ModelValue]) -> list[float]:
        """r_j of the values elsewhere than at s: from 0, at s, to 1, at t."""
        return [(other.lam - self.lam) / self.length for other in values[1:]]

    def weighted(self, x: Tensor, values: Sequence[ModelValue], weights: Sequence[float]) -> Tensor:
        """x_t by the weights w_j; other arguments as in `apply`."""
        first, *others = values
        x = (self.x_weight * x).add_(first.m, alpha=-self.model_weight * (math.expm1(self.h) - sum(weights)))
        for weight, other in zip(weights, others, strict=True):
            x.add_(other.m, alpha=-self.model_weight * weight)
        return x
