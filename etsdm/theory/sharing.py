"""The optimal output of a network under a condition that several times share.

With input z and one condition for all times u of a set, the optimum is the average of the optima at each u,

    F(z) = sum_u w_u F*(z / c_in(u), u),    F* = k_x0 E[x0 | x] + k_eps E[eps | x],

where for noise prediction (c_in = 1, F* = -sigma_u s(x, u)) this is paper Eq. A15. The average is convex; its weights are

    uniform     w_u the same for all u, as in the paper's proof;
    posterior   w_u ~ q_u(z), the density of the input at u: the minimiser of the training loss (paper Eq. 9) when u is uniform.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target
from etsdm.theory.mixtures import GaussianMixture
from etsdm.theory.shared_times import WeightedTimes, quadrature

__all__ = ["Weights", "average_output", "best_output", "shared_optimum"]

Weights = Literal["uniform", "posterior"]

CHUNK_ELEMENTS = 2**22  # of the largest intermediate tensor of an average, 32 MB in float64


def best_output(mixture: GaussianMixture, schedule: Schedule, target: Target, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The optimal output F* at times t, and the log density of the network's input.

    Args:
        mixture: distribution of the clean data.
        schedule: the noise schedule.
        target: the prediction target.
        z: the network's input c_in x, float64, (..., D).
        t: times; broadcasts against z's leading axes.

    Returns:
        F*, (..., D), and log q_t(z), (...).
    """
    alpha, sigma = schedule.alpha_sigma(t)
    c_in = target.c_in(alpha, sigma)
    x = z / c_in[..., None]
    marginal = mixture.marginal(x, alpha, sigma)
    log_density = marginal.log_density - mixture.dim * c_in.log()
    return target.training_target(marginal.x0, marginal.eps, alpha[..., None], sigma[..., None]), log_density


def average_output(
    mixture: GaussianMixture, schedule: Schedule, target: Target, z: Tensor, shared: WeightedTimes, weights: Weights = "uniform"
) -> Tensor:
    """The average of F* over times that share a condition (paper Eq. A15).

    Args:
        mixture: distribution of the clean data.
        schedule: the noise schedule.
        target: the prediction target.
        z: the network's input c_in x, float64, (R, D).
        shared: noising times that share the condition of each row of z, one row or R.
        weights: `uniform` or `posterior`.

    Returns:
        (R, D).
    """
    rows = max(CHUNK_ELEMENTS // (shared.times.shape[1] * mixture.means.numel()), 1)
    parts = []
    for start in range(0, len(z), rows):
        part = slice(start, start + rows) if len(shared.times) > 1 else slice(None)
        output, log_density = best_output(mixture, schedule, target, z[start : start + rows, None], shared.times[part])
        w = shared.weights[part]
        if weights == "posterior":
            w = (w.log() + log_density).softmax(-1)
        parts.append((w[..., None] * output).sum(-2))
    return torch.cat(parts)


def shared_optimum(
    mixture: GaussianMixture,
    schedule: Schedule,
    x: Tensor,
    low: float,
    high: float,
    *,
    target: Target | None = None,
    weights: Weights = "uniform",
) -> Tensor:
    """The optimal prediction under one condition for all times in [low, high) of a continuous schedule (paper Eq. A15).

    Args:
        mixture: distribution of the clean data.
        schedule: the noise schedule, continuous.
        x: the network's input, (R, D); for targets with c_in = 1 the noisy data.
        low: lower end of the interval.
        high: upper end of the interval.
        target: the prediction target, `eps` by default.
        weights: `uniform`, as in the paper's proof, or `posterior`, the minimiser of the loss.

    Returns:
        float64, (R, D).
    """
    ends = torch.tensor([[low], [high]], dtype=torch.float64, device=x.device)
    return average_output(mixture, schedule, target or Eps(), x.to(torch.float64), quadrature(*ends), weights)
