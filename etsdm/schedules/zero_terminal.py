"""Schedules rescaled to zero terminal SNR (Lin et al. 2024, algorithm 1).

alpha is shifted and scaled so that its first value stays and its last one is 0. Continuous, where the first value is 1:

    alpha' = (alpha - alpha_1)/(1 - alpha_1),   1 - alpha' = (1 - alpha)/(1 - alpha_1),   sigma'^2 = (1 - alpha')(1 + alpha').

Discrete, with alpha_0 at index 0 and alpha_T at the last one:

    alpha' = alpha_0 rho,   1 - alpha' = (1 - alpha_0) + alpha_0 (1 - rho),   rho = (alpha - alpha_T)/(alpha_0 - alpha_T).

Every difference is computed by expm1 or as 1 - alpha = sigma^2/(1 + alpha), so that none loses digits. At the last time x0 does not
follow from eps: use v or x0 as the target.
"""

from __future__ import annotations

from functools import cached_property
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from etsdm.registry import field_error, schedules
from etsdm.schedules.base import Continuous, Schedule, Slope
from etsdm.schedules.discrete import Discrete
from etsdm.schedules.linear import Linear, LinearContinuous

__all__ = ["ZeroTerminal", "ZeroTerminalContinuous"]


@schedules.register("zero-terminal-snr")
class ZeroTerminal(Discrete):
    """A discrete schedule rescaled to zero SNR at the last timestep (Lin et al. 2024).

    Attributes:
        base: discrete schedule to rescale, with two timesteps or more.
    """

    base: Schedule = Linear()

    @model_validator(mode="after")
    def _base_is_discrete(self) -> Self:
        if not isinstance(self.base, Discrete):
            message = f"{self.base.type_name!r} is continuous; give a discrete schedule, or use zero-terminal-snr-continuous"
            raise field_error("ZeroTerminal", ("base",), message, self.base.type_name)
        if self.base.horizon < 2:
            message = f"{self.base.type_name!r} has one timestep, which cannot keep its signal and lose it; give timesteps: 2 or more"
            raise field_error("ZeroTerminal", ("base",), message, self.base.type_name)
        return self

    @property
    def _levels(self) -> Discrete:
        assert isinstance(self.base, Discrete)
        return self.base

    @property
    def log_snrs(self) -> Tensor:
        """2 log(alpha') - log(sigma'^2), float64, (T,)."""
        betas = self._levels.betas
        steps = -torch.log1p(-betas[1:]) / 2
        zero = steps.new_zeros(1)
        behind, ahead = torch.cat([zero, steps.cumsum(0)]), torch.cat([steps.flip(0).cumsum(0).flip(0), zero])
        # rho = (exp(-behind) - exp(-whole))/(1 - exp(-whole)), whole = behind + ahead.
        whole = -torch.expm1(-ahead[0])
        rho, lost = torch.exp(-behind) * -torch.expm1(-ahead) / whole, -torch.expm1(-behind) / whole
        first = torch.sqrt(1 - betas[0])
        alpha, rest = first * rho, betas[0] / (1 + first) + first * lost
        return 2 * alpha.log() - torch.log(rest * (1 + alpha))

    @property
    def continuous(self) -> ZeroTerminalContinuous:
        """Continuous limit of the base, rescaled."""
        return ZeroTerminalContinuous(base=self._levels.continuous)


@schedules.register("zero-terminal-snr-continuous")
class ZeroTerminalContinuous(Continuous):
    """A continuous schedule rescaled to zero SNR at t = 1 (Lin et al. 2024).

    Attributes:
        base: continuous, variance-preserving schedule to rescale.
    """

    base: Schedule = LinearContinuous()

    @model_validator(mode="after")
    def _base_is_continuous(self) -> Self:
        if not isinstance(self.base, Continuous):
            message = f"{self.base.type_name!r} is discrete; give a continuous schedule, or use zero-terminal-snr"
            raise field_error("ZeroTerminalContinuous", ("base",), message, self.base.type_name)
        if not self.base.variance_preserving:
            message = f"{self.base.type_name!r} does not preserve variance; give a schedule with alpha^2 + sigma^2 = 1"
            raise field_error("ZeroTerminalContinuous", ("base",), message, self.base.type_name)
        return self

    @property
    def _curve(self) -> Continuous:
        assert isinstance(self.base, Continuous)
        return self.base

    @cached_property
    def _last(self) -> float:
        """alpha_1."""
        return self.base.alpha(1.0).item()

    @cached_property
    def _scale(self) -> float:
        """1 - alpha_1."""
        return self.base.sigma(1.0).square().item() / (1 + self._last)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self._curve._alpha_sigma(t)
        rescaled = self._curve._alpha_above_last(t) / self._scale
        return rescaled, sigma * torch.sqrt((1 + rescaled) / (1 + alpha) / self._scale)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        rate = self._curve._rates(t)[0] / self._scale
        return rate, -2 * rate * self._alpha_sigma(t)[0]

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        rescaled, variance = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid()
        alpha = self._last + self._scale * rescaled
        rest = self._scale * variance / (1 + rescaled)
        return self.base.t_of_log_snr(2 * alpha.log() - torch.log(rest * (1 + alpha)))

    def slope_at_zero(self) -> Slope:
        """Slope of the base divided by sqrt(1 - alpha_1), or d (sigma^2)/dt / (2 sigma) if the base has noise at t = 0."""
        sigma = self.sigma(0.0).item()
        if sigma > 0:
            return Slope(self.rates(0.0)[1].item() / (2 * sigma), False)
        slope = self.base.slope_at_zero()
        return Slope(slope.value / self._scale**0.5, slope.singular)
