"""Data N(0, c^2 I), where the optimal noise prediction is linear and samplers are solved exactly.

The noisy density is N(0, (alpha^2 c^2 + sigma^2) I), so eps*(x, t) = g_t x with

    g_t = sigma / (alpha^2 c^2 + sigma^2),

and under a condition that several timesteps share, g is its mean over them (paper Eq. A15, uniform weights). A step of a sampler
multiplies x by a number and may add noise:

    DDPM  x_{t-1} = (alpha_{t-1}/alpha_t) (x_t - (beta_t/sigma_t) g_t x_t) + sqrt(beta_t) z, z = 0 in the last step   (paper Eq. 10)
    DDIM  x_s     = alpha_s (x_t - sigma_t g_t x_t) / alpha_t + sigma_s g_t x_t,   alpha_s = 1, sigma_s = 0 in the last step

so the variance of the samples follows from a recursion, without randomness. The estimator of paper Eq. 8 is

    K(i, i+1) = |g(f(i+1)) - g(f(i))| E||x_i||,   E||N(0, I)|| = sqrt(2) Gamma((d+1)/2) / Gamma(d/2) in d dimensions;

for c = 1, where variance is preserved, g = sigma and K(i, i+1) = |sigma_{i+1} - sigma_i| E||N(0, I)||.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap, Identity
from etsdm.schedules import Discrete
from etsdm.theory.shared_times import shared_times_of

__all__ = ["ddim_response", "ddim_spread", "ddpm_spread", "gaussian_lipschitz", "mean_norm"]


def mean_norm(d: int) -> float:
    """E||z|| of a standard normal z in d dimensions, sqrt(2) Gamma((d+1)/2) / Gamma(d/2)."""
    return math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))


def gaussian_lipschitz(schedule: Discrete, *, c: float = 1.0, d: int = 1, condition_map: ConditionMap | None = None) -> Tensor:
    """K(i, i+1) of the optimal noise prediction on N(0, c^2 I) (paper Eq. 8).

    Args:
        schedule: the noise schedule.
        c: standard deviation of the data.
        d: number of elements of one image.
        condition_map: identity by default; where timesteps share a condition K is exactly 0.

    Returns:
        Per timestep, float64, (T-1,).
    """
    alpha, sigma, slope = _levels(schedule, c, condition_map)
    spread = torch.sqrt(alpha**2 * c**2 + sigma**2)
    return slope.diff().abs() * spread[:-1] * mean_norm(d)


def ddpm_spread(schedule: Discrete, c: float, condition_map: ConditionMap | None = None) -> float:
    """Standard deviation of DDPM samples in T steps, divided by that of the data (paper Eq. 10 with eta^2 = beta).

    Args:
        schedule: the noise schedule, alpha above 0 at every timestep.
        c: standard deviation of the data, above 0.
        condition_map: identity by default.
    """
    alpha, sigma, slope = _levels(schedule, c, condition_map)
    alpha_s = torch.cat([alpha.new_ones(1), alpha[:-1]])
    beta = schedule.betas
    factor = alpha_s / alpha * (1 - beta / sigma * slope)
    noise = torch.cat([beta.new_zeros(1), beta[1:]])
    return math.sqrt(_variance(1.0, factor.flip(0).tolist(), noise.flip(0).tolist())) / c


def ddim_spread(schedule: Discrete, c: float, condition_map: ConditionMap | None = None, *, steps: int = 50) -> float:
    """Standard deviation of DDIM samples, divided by that of the data; the grid is multiples of T // steps, down to 0.

    Args:
        schedule: the noise schedule, alpha above 0 at the grid's timesteps.
        c: standard deviation of the data, above 0.
        condition_map: identity by default.
        steps: number of network calls, 1 to T.

    Raises:
        ValueError: steps is out of range.
    """
    total = int(schedule.horizon)
    if not 1 <= steps <= total:
        raise ValueError(f"steps: {steps} steps do not fit a schedule of {total} timesteps; give 1 to {total}")
    return abs(_ddim_factor(schedule, c, condition_map, torch.arange(steps) * (total // steps))) / c


def ddim_response(schedule: Discrete, c: float, condition_map: ConditionMap | None = None, *, t: int = 100) -> float:
    """Sensitivity d x_0 / d x_t of DDIM with every timestep from t down to 0.

    Args:
        schedule: the noise schedule.
        c: standard deviation of the data, above 0.
        condition_map: identity by default.
        t: the timestep of x_t, that of the first network call.
    """
    return _ddim_factor(schedule, c, condition_map, torch.arange(t + 1))


def _ddim_factor(schedule: Discrete, c: float, condition_map: ConditionMap | None, times: Tensor) -> float:
    alpha, sigma, slope = (values[times] for values in _levels(schedule, c, condition_map))
    alpha_s = torch.cat([alpha.new_ones(1), alpha[:-1]])
    sigma_s = torch.cat([sigma.new_zeros(1), sigma[:-1]])
    return (alpha_s * (1 - sigma * slope) / alpha + sigma_s * slope).prod().item()


def _levels(schedule: Discrete, c: float, condition_map: ConditionMap | None) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, sigma and the slope g under the condition map at all timesteps, (T,)."""
    t = torch.arange(int(schedule.horizon), dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    slope = sigma / (alpha**2 * c**2 + sigma**2)
    shared = shared_times_of(condition_map or Identity(), schedule).of(t)
    return alpha, sigma, (slope[shared.times.long()] * shared.weights).sum(1)


def _variance(variance: float, factors: Iterable[float], noises: Iterable[float]) -> float:
    """Variance after steps that multiply by a factor and add noise of a variance."""
    for factor, noise in zip(factors, noises, strict=True):
        variance = factor**2 * variance + noise
    return variance
