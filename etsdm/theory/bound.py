"""Error bound of the optimum under shared conditions (paper theorem 4.1).

For sub-intervals of length dt = t_tilde / n with edges t_0 < ... < t_n, and every t in [0, t_tilde),

    || eps*(x, f_T(t)) - eps*(x, t) || <= sigma_{t_tilde} K(x) dt + B(x) dsigma_max                          (paper Eq. 11)
    K(x) = sup_{t != u} ||s(x,t) - s(x,u)|| / |t - u|,   B(x) = sup_t ||s(x,t)||,   t and u in [0, t_tilde]  (paper Eq. 12)
    dsigma_max = max_i |sigma_{t_i} - sigma_{t_{i-1}}|

Where sigma is increasing and concave dsigma_max is the first increment, sigma_dt (paper Eq. A16); as sigma_dt / sqrt(dt) goes to
sqrt(2 |alpha'(0)|) the bound is of order 1/2 in dt (paper Eq. A17). It holds for any weights of the average.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.schedules import Schedule
from etsdm.theory.mixtures import GaussianMixture
from etsdm.theory.singularity import optimum

__all__ = ["SharingBound", "sharing_bound"]


class SharingBound(NamedTuple):
    """Right-hand side of paper Eq. 11 and its terms, float64.

    Fields: K, Lipschitz constant of the score in time, (...); B, largest norm of the score, (...); dsigma_max, largest increment of
    sigma over a sub-interval, (); bound, sigma_{t_tilde} K dt + B dsigma_max, (...).
    """

    K: Tensor
    B: Tensor
    dsigma_max: Tensor
    bound: Tensor


def sharing_bound(mixture: GaussianMixture, schedule: Schedule, x: Tensor, *, t_tilde: float, n: int, points: int = 101) -> SharingBound:
    """The bound of theorem 4.1 on the error of shared conditions (paper Eq. 11, 12, A16, A17).

    Args:
        mixture: distribution of the clean data, every standard deviation above 0.
        schedule: the noise schedule.
        x: noisy data, (..., D).
        t_tilde: end of the shared times, in the schedule's unit.
        n: number of sub-intervals.
        points: number of equally spaced times from 0 to t_tilde, ends included, over which the suprema are taken; from below.

    Raises:
        ValueError: n or points is too small, t_tilde is outside the schedule's times, or x does not have D elements.
    """
    if n < 1:
        raise ValueError(f"n: {n} is not a number of sub-intervals; give 1 or more")
    if points < 2:
        raise ValueError(f"points: {points} times have no distance; give 2 or more")
    times = torch.linspace(0, t_tilde, points, dtype=torch.float64, device=x.device)
    score = optimum(mixture, schedule, x[..., None, :], times).score
    B = score.norm(dim=-1).amax(-1)
    # Every pair of times once, grouped by their distance of k points.
    steepest = [(score[..., k:, :] - score[..., :-k, :]).norm(dim=-1).amax(-1) / (times[k] - times[0]) for k in range(1, points)]
    K = torch.stack(steepest).amax(0)
    sigma = schedule.sigma(torch.linspace(0, t_tilde, n + 1, dtype=torch.float64, device=x.device))
    dsigma_max = sigma.diff().abs().max()
    return SharingBound(K, B, dsigma_max, sigma[-1] * K * t_tilde / n + B * dsigma_max)
