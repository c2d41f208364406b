"""Schedules with beta = (a + b t)^p: p = 1 linear, p = 2 quadratic.

Discrete (paper Eq. A3, A4): beta[i]^(1/p) is linear from beta_start^(1/p) to beta_end^(1/p). Continuous (paper Eq. A5, A6):

    B(t) = int_0^t beta,   alpha = exp(-B/2),   sigma = sqrt(-expm1(-B)),   d alpha/dt = -beta alpha/2.

beta(t) is the limit of T beta[i] at t = (i + 1)/T.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from etsdm.registry import field_error
from etsdm.registry.counts import Timesteps
from etsdm.schedules.base import Continuous, Slope
from etsdm.schedules.discrete import FromBetas

__all__ = ["PolynomialContinuous", "PowerBetas"]


class PowerBetas(FromBetas):
    """beta^(1/power) linear in the timestep.

    Attributes:
        timesteps: number of timesteps T.
        beta_start, beta_end: first and last beta.
        grid: position of beta_start. `linspace`, as in DDPM code: at index 0. `paper`: one step before index 0, so that it may be 0.
            `linspace-from-zero`: beta_start is 0 and at index 0, where sigma is 0 and eps undefined; only for comparison with
            published results on such schedules.
    """

    power: ClassVar[int]

    timesteps: Timesteps = 1000
    beta_start: float = Field(1e-4, ge=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    grid: Literal["linspace", "paper", "linspace-from-zero"] = "linspace"

    @model_validator(mode="after")
    def _beta_start_fits_grid(self) -> Self:
        if self.grid == "linspace" and self.beta_start == 0:
            message = "found 0, with which timestep 0 of grid linspace has no noise; give a value above 0, or grid: paper"
            raise field_error(type(self).__name__, ("beta_start",), message, self.beta_start)
        if self.grid == "linspace-from-zero" and self.beta_start > 0:
            message = f"found {self.beta_start:g}; grid linspace-from-zero starts at 0, give 0 or grid: linspace"
            raise field_error(type(self).__name__, ("beta_start",), message, self.beta_start)
        return self

    @property
    def betas(self) -> Tensor:
        """Powers of equally spaced roots, float64, (T,)."""
        first, last = self.beta_start ** (1 / self.power), self.beta_end ** (1 / self.power)
        if self.grid == "paper":
            return torch.linspace(first, last, self.timesteps + 1, dtype=torch.float64)[1:] ** self.power
        return torch.linspace(first, last, self.timesteps, dtype=torch.float64) ** self.power


class PolynomialContinuous(Continuous):
    """A continuous schedule with polynomial beta(t)."""

    @property
    @abstractmethod
    def coefficients(self) -> tuple[float, ...]:
        """Coefficients c_k of beta(t) = sum_k c_k t^k, k = 0 first."""

    @abstractmethod
    def _t_of_integral(self, integral: Tensor) -> Tensor:
        """Inverse of B(t), for values from 0 to B(1)."""

    def _rate(self, t: Tensor) -> Tensor:
        """beta(t)."""
        return _horner(self.coefficients, t)

    def _integral(self, t: Tensor) -> Tensor:
        """B(t)."""
        return t * _horner([c / (k + 1) for k, c in enumerate(self.coefficients)], t)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        integral = self._integral(t)
        return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        rate, (alpha, _) = self._rate(t), self._alpha_sigma(t)
        return -rate * alpha / 2, rate * alpha.square()

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        whole = sum(c / (k + 1) for k, c in enumerate(self.coefficients))
        # log(1 + 1/SNR) = B.
        return self._t_of_integral((-F.logsigmoid(log_snr)).clamp(max=whole))

    def _alpha_above_last(self, t: Tensor) -> Tensor:
        # B(1) - B(t) with its factor 1 - t in front: 1 - t^(k+1) = (1 - t)(1 + t + ... + t^k).
        partial = [c / (k + 1) for k, c in enumerate(self.coefficients)]
        left = (1 - t) * _horner([sum(partial[k:]) for k in range(len(partial))], t)
        return -torch.exp(-self._integral(t) / 2) * torch.expm1(-left / 2)

    def slope_at_zero(self) -> Slope:
        """sqrt(beta(0))/2, singular, if beta(0) > 0; else sqrt(beta'(0)/2), because sigma^2 begins as beta'(0) t^2/2."""
        start, rise = self.coefficients[:2]
        return Slope(math.sqrt(start) / 2, True) if start > 0 else Slope(math.sqrt(rise / 2), False)


def _horner(coefficients: Iterable[float], t: Tensor) -> Tensor:
    *lower, constant, slope = coefficients
    value = t * slope + constant
    for c in reversed(lower):
        value = value * t + c
    return value
