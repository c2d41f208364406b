"""The variance of a sampling step that a network learns, on a logarithmic scale between its two bounds.

A step goes from time t to an earlier s. With beta_t = 1 - alpha_t^2 / alpha_s^2 and beta~_t = beta_t sigma_s^2 / sigma_t^2,

    log variance = f log beta_t + (1 - f) log beta~_t,    f = (v + 1)/2                  (Nichol and Dhariwal 2021, Eq. 15)

where v is the network's output: -1 means beta~, right where the image is known (constant data), and 1 means beta, right for data
N(0, I). Nothing holds v between them. The article writes f for v; the halving is that of its code.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["learned_log_variance"]


def learned_log_variance(logit: Tensor, log_beta: Tensor, log_posterior: Tensor) -> Tensor:
    """The log variance of a step.

    Args:
        logit: v, (B, C, H, W).
        log_beta: log beta_t, broadcasting against v, float64.
        log_posterior: log beta~_t, likewise; finite, so that where s is the clean image another value has to stand for log 0.

    Returns:
        (B, C, H, W), float32, or float64 where v is.
    """
    precision = torch.promote_types(logit.dtype, torch.float32)
    # As a distance from beta~, because the two bounds are close at large t.
    width = (log_beta - log_posterior).to(precision)
    return log_posterior.to(precision) + (logit.to(precision) + 1) / 2 * width
