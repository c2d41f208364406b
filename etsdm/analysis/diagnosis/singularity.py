"""Which targets are infinitely steep in time at t = 0 (paper theorem 3.1).

The ideal output is F* = k_x0 x0* + k_eps eps*, and eps* = -sigma s with the score s, so near t = 0

    F*  =  k_x0 x  -  (sigma k_eps) s  +  O(t).

Where d sigma/dt is infinite at 0, F* is infinitely steep in t if one of the two weights changes with sigma there: eps (0, sigma) and
v (-sigma, alpha sigma) are, x0 (1, 0) and the score (0, 1) are not.
"""

from __future__ import annotations

import math

import torch

from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["is_singular"]

SMALL = 1e-5  # noise levels at which the weights are compared
LEAST = 1e-3  # rate of a weight in sigma below which it is constant


def is_singular(schedule: Schedule, target: Target) -> bool:
    """Whether the ideal output of a target has an infinite slope in time at t = 0."""
    if not schedule.slope_at_zero().singular:
        return False
    sigma = torch.tensor([SMALL, 2 * SMALL], dtype=torch.float64)
    alpha = (1 - sigma.square()).sqrt() if schedule.variance_preserving else torch.ones_like(sigma)
    k_x0, k_eps = target.output_weights(alpha, sigma)
    rates = [(weight[1] - weight[0]).item() / SMALL for weight in (k_x0, sigma * k_eps)]
    return math.hypot(*rates) > LEAST
