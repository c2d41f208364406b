"""Gaussian mixtures, with noisy densities, scores and optimal predictions in closed form.

For clean data x_0 ~ sum_m w_m N(mu_m, s_m^2 I) the noisy x = alpha x_0 + sigma eps (paper Eq. 1) is again a mixture:

    q(x)      = sum_m w_m N(x; alpha mu_m, tau_m^2 I),            tau_m^2 = alpha^2 s_m^2 + sigma^2,
    r_m       = w_m N(x; alpha mu_m, tau_m^2 I) / q(x),           u_m = x - alpha mu_m,
    s(x)      = grad log q(x) = sum_m r_m (-u_m / tau_m^2),
    E[x_0|x]  = sum_m r_m (mu_m + alpha s_m^2 u_m / tau_m^2),     E[eps|x] = -sigma s(x).

A sum F = sum_m r_m F_m has along a path of (alpha, sigma^2) the rate

    dF/dt     = sum_m r_m (dF_m/dt + (l_m - sum_k r_k l_k) F_m),
    l_m       = d log N_m/dt = -(D/2) T_m / tau_m^2 + alpha' (u_m . mu_m) / tau_m^2 + |u_m|^2 T_m / (2 tau_m^4),
    T_m       = d tau_m^2/dt = 2 alpha alpha' s_m^2 + (sigma^2)'.

Nothing here divides by alpha or sigma: all of it is exact at alpha = 0, and at sigma = 0 where every s_m > 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.registry import suggestion

__all__ = ["MIXTURES", "GaussianMixture", "Marginal", "MarginalRates", "mixture"]


class Marginal(NamedTuple):
    """Density, score and optimal predictions of a mixture at noisy x.

    Fields: log_density, log q(x), (...); score, grad log q(x), (..., D); x0, E[x0 | x], (..., D); eps, E[eps | x], (..., D).
    """

    log_density: Tensor
    score: Tensor
    x0: Tensor
    eps: Tensor


class MarginalRates(NamedTuple):
    """d/dt of the score and of E[x0 | x] at fixed x, each (..., D)."""

    score: Tensor
    x0: Tensor


class _Terms(NamedTuple):
    """Terms of each component at x, (..., D).

    Fields: alpha, sigma, (..., 1); means, (M, D); offset, u_m, (..., M, D); variance, tau_m^2, distance, |u_m|^2, and log_joint,
    log w_m N_m, (..., M).
    """

    x: Tensor
    alpha: Tensor
    sigma: Tensor
    means: Tensor
    offset: Tensor
    variance: Tensor
    distance: Tensor
    log_joint: Tensor

    @property
    def along(self) -> Tensor:
        """u_m . mu_m, (..., M)."""
        return (self.offset * self.means).sum(-1)

    def mean_offset(self, weights: Tensor) -> Tensor:
        """sum_m weights_m u_m. Args: weights: (..., M). Returns: (..., D)."""
        # Two products instead of the (..., M, D) of u_m, and as exact: u_m itself is rounded as x and alpha mu_m are.
        return weights.sum(-1, keepdim=True) * self.x - self.alpha * (weights @ self.means)


class GaussianMixture:
    """Mixture of isotropic Gaussians as the distribution of clean data; float64, on one device.

    Args:
        means: means mu of the components, (M, D).
        stds: standard deviations s of the components, 0 or more, (M,).
        weights: probabilities w of the components, above 0, (M,).

    Raises:
        ValueError: the shapes do not fit together, a deviation is negative, or the weights are no probabilities.
    """

    def __init__(
        self, means: Tensor | Sequence[Sequence[float]], stds: Tensor | Sequence[float], weights: Tensor | Sequence[float]
    ) -> None:
        self.means = torch.as_tensor(means, dtype=torch.float64)
        self.stds = torch.as_tensor(stds, dtype=torch.float64)
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        if self.means.ndim != 2 or not self.means.numel():
            raise ValueError(f"means: found shape {tuple(self.means.shape)}; give one row of D numbers a component, (M, D)")
        for name, values in (("stds", self.stds), ("weights", self.weights)):
            if values.shape != self.means.shape[:1]:
                raise ValueError(f"{name}: found shape {tuple(values.shape)}; give one value for each of {len(self.means)} components")
        if not (self.stds >= 0).all():
            raise ValueError(f"stds: {self.stds.min().item():g} is no standard deviation; give 0 or more")
        if not (self.weights > 0).all() or not math.isclose(self.weights.sum().item(), 1, abs_tol=1e-9):
            raise ValueError(f"weights: {self.weights.tolist()} are no probabilities; give values above 0 that add up to 1")
        self._log_weights = self.weights.log()

    @property
    def dim(self) -> int:
        """D, the number of elements of one image."""
        return self.means.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the parameters; x has to be there."""
        return self.means.device

    def to(self, device: torch.device | str) -> GaussianMixture:
        """Copies the mixture to a device."""
        return GaussianMixture(self.means.to(device), self.stds.to(device), self.weights.to(device))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws clean data.

        Args:
            n: number of samples.
            generator: random generator on the mixture's device.

        Returns:
            float64, (n, D).
        """
        m = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, dtype=torch.float64, device=self.device, generator=generator)
        return self.means[m] + self.stds[m, None] * noise

    def marginal(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Marginal:
        """Density, score and optimal predictions at noisy x (paper section 2).

        Args:
            x: noisy data on the mixture's device, (..., D).
            alpha: signal coefficient; broadcasts against x's leading axes.
            sigma: noise standard deviation; broadcasts like alpha.

        Returns:
            float64.

        Raises:
            ValueError: the last axis of x does not have D elements.
        """
        terms = self._terms(x, alpha, sigma)
        log_density = terms.log_joint.logsumexp(-1)
        r = (terms.log_joint - log_density[..., None]).exp()
        shrink = terms.alpha * self.stds**2 / terms.variance
        score = -terms.mean_offset(r / terms.variance)
        x0 = r @ self.means + terms.mean_offset(r * shrink)
        return Marginal(log_density, score, x0, -terms.sigma * score)

    def rates(self, x: Tensor, alpha: Tensor, sigma: Tensor, d_alpha: Tensor, d_variance: Tensor) -> MarginalRates:
        """Rates in time of the score and of E[x0 | x] at fixed x (ds/dt in paper Eq. 5 and A11).

        Args:
            x: noisy data on the mixture's device, (..., D).
            alpha: signal coefficient; this and the others broadcast against x's leading axes.
            sigma: noise standard deviation.
            d_alpha: d alpha/dt.
            d_variance: d (sigma^2)/dt, which is finite where d sigma/dt is not.

        Returns:
            float64.

        Raises:
            ValueError: the last axis of x does not have D elements.
        """
        terms = self._terms(x, alpha, sigma)
        r = terms.log_joint.softmax(-1)
        precision = 1 / terms.variance
        d_alpha, d_variance = d_alpha[..., None], d_variance[..., None]
        d_log_variance = precision * (2 * terms.alpha * d_alpha * self.stds**2 + d_variance)
        d_log_normal = precision * (d_alpha * terms.along + terms.distance * d_log_variance / 2) - self.dim / 2 * d_log_variance
        d_r = r * (d_log_normal - (r * d_log_normal).sum(-1, keepdim=True))
        shrink = terms.alpha * self.stds**2 * precision
        d_shrink = d_alpha * self.stds**2 * precision - shrink * d_log_variance
        d_score = (r * precision * d_alpha) @ self.means + terms.mean_offset(precision * (r * d_log_variance - d_r))
        d_x0 = (d_r - r * shrink * d_alpha) @ self.means + terms.mean_offset(d_r * shrink + r * d_shrink)
        return MarginalRates(d_score, d_x0)

    def _terms(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> _Terms:
        if not x.ndim or x.shape[-1] != self.dim:
            raise ValueError(f"x: found shape {tuple(x.shape)}; give {self.dim} elements on the last axis, as the mixture has")
        alpha, sigma = (level.to(torch.float64)[..., None] for level in (alpha, sigma))
        x, variance = x.to(torch.float64), alpha**2 * self.stds**2 + sigma**2
        # Not by expanding the square, which would lose the digits that a small variance needs.
        offset = x[..., None, :] - alpha[..., None] * self.means
        distance = offset.square().sum(-1)
        log_joint = self._log_weights - self.dim / 2 * (2 * math.pi * variance).log() - distance / (2 * variance)
        return _Terms(x, alpha, sigma, self.means, offset, variance, distance, log_joint)


MIXTURES = {
    "m1": GaussianMixture(means=[[-1.5], [0.2], [1.4]], stds=[0.3, 0.5, 0.4], weights=[0.3, 0.5, 0.2]),
    "m2": GaussianMixture(means=[[-1.5, 0.5], [0.2, -1.0], [1.4, 0.8]], stds=[0.3, 0.5, 0.4], weights=[0.3, 0.5, 0.2]),
    "normal": GaussianMixture(means=[[0.0]], stds=[1.0], weights=[1.0]),
}


def mixture(name: str) -> GaussianMixture:
    """Looks up a named mixture.

    Args:
        name: `m1`, three components on a line; `m2`, three in the plane; `normal`, the standard normal on a line.

    Raises:
        ValueError: no mixture has this name.
    """
    if name not in MIXTURES:
        raise ValueError(f"mixture: {name!r} is not known; {suggestion(name, MIXTURES, 'known mixtures')}")
    return MIXTURES[name]
