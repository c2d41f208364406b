"""Exponential integrators in log-SNR, which DPM-Solver, DPM-Solver++ and UniPC are made of.

With lambda = log(alpha/sigma), half of log-SNR, the probability-flow ODE has a linear part that is solved exactly, and what is left
is an integral of what the network predicts, m, from s to t, h = lambda_t - lambda_s (Lu et al. 2022a, proposition 3.1; 2022b, 4.1):

    m = eps:   x_t = alpha_t/alpha_s x_s - sigma_t I(h),      m = x0:   x_t = sigma_t/sigma_s x_s - alpha_t I(-h),
    I(h) = (e^h - 1) m_s + sum_j w_j (m_j - m_s).

m_j is known at lambda_s + r_j |h|. Replacing m by the polynomial through the known values fixes the weights by their moments,

    sum_j w_j r_j^k = M_k = k! h phi_{k+1}(h),   k = 1, 2, ..., as many as there are j,

    phi_1(h) = (e^h - 1)/h,   phi_{k+1}(h) = (phi_k(h) - 1/k!)/h.

Solvers differ in where m is known, and some take simpler moments that agree with these to the order that they need. With no m_j
the update is DDIM's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from etsdm.samplers.base import Predicted
from etsdm.samplers.model import Point

__all__ = ["Known", "Leap", "exact_moments", "leaps", "phi", "weights_at"]


def phi(k: int, h: float) -> float:
    """phi_k(h) for k = 1, 2, ..., without cancellation near h = 0."""
    if abs(h) < 1:
        return sum(h**j / math.factorial(j + k) for j in range(18))
    value = math.expm1(h) / h
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / h
    return value


def exact_moments(h: float, count: int) -> list[float]:
    """M_1, ..., M_count of the polynomial through the known values."""
    return [math.factorial(k) * h * phi(k + 1, h) for k in range(1, count + 1)]


def weights_at(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """w with sum_j w_j r_j^k = M_k for k = 1, ..., one for each node r_j."""
    if len(nodes) < 2:
        return [moment / node for node, moment in zip(nodes, moments, strict=True)]
    powers = np.array([[node**k for node in nodes] for k in range(1, len(nodes) + 1)])
    solution: list[float] = np.linalg.solve(powers, np.array(moments)).tolist()
    return solution


def leaps(s: Point, t: Point) -> bool:
    """Whether log-SNR rises by a finite amount from s to t; if not, DDIM's update is what is left of all solvers."""
    return math.isfinite(t.lam - s.lam)


class Known(NamedTuple):
    """What the network predicted at a lambda. Fields: lam; m, eps or x0, (B, C, H, W)."""

    lam: float
    m: Tensor


class Leap(NamedTuple):
    """The way from a point to another, between which log-SNR rises by a finite amount.

    Fields: lam, lambda_s; length, lambda_t - lambda_s; h, the same or its negative, the argument of I; carry and scale, the
    coefficients of x_s and of -I(h).
    """

    lam: float
    length: float
    h: float
    carry: float
    scale: float

    @classmethod
    def between(cls, s: Point, t: Point, predicts: Predicted) -> Leap:
        """From s to t, by a network's eps or x0."""
        length = t.lam - s.lam
        if predicts == "eps":
            return cls(s.lam, length, length, t.alpha / s.alpha, t.sigma)
        return cls(s.lam, length, -length, t.sigma / s.sigma, t.alpha)

    def land(self, x: Tensor, known: Sequence[Known], moments: Sequence[float]) -> Tensor:
        """x_t.

        Args:
            x: x_s, (B, C, H, W).
            known: what the network predicted at s, then elsewhere.
            moments: M_1, ..., one for each elsewhere.
        """
        return self.weighted(x, known, weights_at(self.nodes(known), moments))

    def nodes(self, known: Sequence[Known]) -> list[float]:
        """r_j of what is known elsewhere than at s: from 0, at s, to 1, at t."""
        return [(other.lam - self.lam) / self.length for other in known[1:]]

    def weighted(self, x: Tensor, known: Sequence[Known], weights: Sequence[float]) -> Tensor:
        """x_t by the weights w_j; else as `land`."""
        first, *others = known
        x = (self.carry * x).add_(first.m, alpha=-self.scale * (math.expm1(self.h) - sum(weights)))
        for weight, other in zip(weights, others, strict=True):
            x.add_(other.m, alpha=-self.scale * weight)
        return x
