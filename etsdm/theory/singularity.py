"""The optimum of training with the true time as condition, its rate in time and the rate's limits at t = 0 (paper theorem 3.1).

With the score s(x, t) of the noisy density,

    eps* = -sigma s,    x0* = (x + sigma^2 s) / alpha = E[x0 | x],    v* = alpha eps* - sigma x0*.

On a variance-preserving schedule d sigma/dt = -(alpha / sqrt(1 - alpha^2)) d alpha/dt, and

    d eps*/dt = (alpha / sqrt(1 - alpha^2)) alpha' s - sqrt(1 - alpha^2) ds/dt                           (paper Eq. 5)
    v*        = -(sigma / alpha) (x + s)                                                                 (paper Eq. A10)
    d v*/dt   = alpha' / (alpha^2 sqrt(1 - alpha^2)) (x + s) - (sqrt(1 - alpha^2) / alpha) ds/dt         (paper Eq. A11)

The functions below hold on any continuous schedule: they use (sigma^2)', which is finite at t = 0, and divide by no alpha. As t
goes to 0, where alpha = 1 and sigma = 0, and with s continuous there,

    sqrt(t) d eps*/dt -> -k s(x, 0),    sqrt(t) d v*/dt -> -k (x + s(x, 0)),    k = sqrt((sigma^2)'(0)) / 2,
    d x0*/dt          -> -alpha'(0) x + (sigma^2)'(0) s(x, 0).

Where variance is preserved, k = sqrt(|alpha'(0)| / 2) and the last limit is -alpha'(0) (x + 2 s(x, 0)). So eps and v are
infinitely steep in time at 0 unless alpha'(0) = 0 (paper Eq. 6, A12), and x0 is not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.schedules import Continuous, Schedule
from etsdm.theory.mixtures import GaussianMixture

__all__ = ["Optimum", "RatesAtZero", "optimum", "optimum_rates", "rates_at_zero"]


class Optimum(NamedTuple):
    """Score and optimal predictions at (x, t), or their rates in time at fixed x; each (..., D), float64."""

    score: Tensor
    eps: Tensor
    v: Tensor
    x0: Tensor


class RatesAtZero(NamedTuple):
    """Limits at t = 0 of sqrt(t) d eps*/dt, sqrt(t) d v*/dt and d x0*/dt; each (..., D), float64."""

    eps: Tensor
    v: Tensor
    x0: Tensor


def optimum(mixture: GaussianMixture, schedule: Schedule, x: Tensor, t: Tensor | float) -> Optimum:
    """Score s, eps* = -sigma s, v* (paper Eq. A10) and x0* = E[x0 | x].

    Args:
        mixture: distribution of the clean data.
        schedule: the noise schedule.
        x: noisy data, (..., D).
        t: times in the schedule's unit; broadcasts against x's leading axes.

    Raises:
        ValueError: a time outside the schedule's domain, or an x whose last axis does not have D elements.
    """
    alpha, sigma = schedule.alpha_sigma(_times(t, x))
    best = mixture.marginal(x, alpha, sigma)
    return Optimum(best.score, best.eps, alpha[..., None] * best.eps - sigma[..., None] * best.x0, best.x0)


def optimum_rates(mixture: GaussianMixture, schedule: Continuous, x: Tensor, t: Tensor | float) -> Optimum:
    """Rates ds/dt, d eps*/dt (paper Eq. 5), d v*/dt (paper Eq. A11) and d x0*/dt at fixed x.

    Those of eps and v are not finite at t = 0 of a singular schedule.

    Args:
        mixture: distribution of the clean data.
        schedule: the noise schedule, continuous.
        x: noisy data, (..., D).
        t: times; broadcasts against x's leading axes.

    Raises:
        ValueError: a time outside the schedule's domain, or an x whose last axis does not have D elements.
    """
    t = _times(t, x)
    levels = (*schedule.alpha_sigma(t), *schedule.rates(t))
    best, rates = mixture.marginal(x, *levels[:2]), mixture.rates(x, *levels)
    alpha, sigma, d_alpha, d_variance = (level[..., None] for level in levels)
    d_sigma = d_variance / (2 * sigma)
    d_eps = -d_sigma * best.score - sigma * rates.score
    d_v = d_alpha * best.eps + alpha * d_eps - d_sigma * best.x0 - sigma * rates.x0
    return Optimum(rates.score, d_eps, d_v, rates.x0)


def rates_at_zero(mixture: GaussianMixture, schedule: Continuous, x: Tensor) -> RatesAtZero:
    """Slopes of the optimum at t = 0; those that are infinite in paper Eq. 6 and A12, as coefficients of 1/sqrt(t).

    Args:
        mixture: distribution of the clean data, every standard deviation above 0.
        schedule: the noise schedule, continuous, with alpha(0) = 1 and sigma(0) = 0.
        x: clean data, (..., D).

    Returns:
        The limits. That of eps has norm sqrt(|alpha'(0)|/2) ||s(x, 0)|| and that of v sqrt(|alpha'(0)|/2) ||x + s(x, 0)|| where
        variance is preserved; both are 0 where the schedule is not singular.

    Raises:
        ValueError: an x whose last axis does not have D elements.
    """
    zero = _times(0.0, x)
    d_alpha, d_variance = schedule.rates(zero)
    score = optimum(mixture, schedule, x, zero).score
    k = d_variance.sqrt() / 2
    return RatesAtZero(-k * score, -k * (x + score), d_variance * score - d_alpha * x)


def _times(t: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64).to(x.device)
