"""The variance-exploding schedule of Song et al. 2021."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor

from etsdm.registry import field_error, schedules
from etsdm.registry.counts import NoiseLevel
from etsdm.schedules.base import Continuous, Slope

__all__ = ["VE"]


@schedules.register("ve")
class VE(Continuous):
    """alpha = 1, sigma geometric from sigma_min to sigma_max; sigma(0) > 0 (Song et al. 2021).

    Attributes:
        sigma_min: noise standard deviation at t = 0.
        sigma_max: noise standard deviation at t = 1.
    """

    variance_preserving: ClassVar[bool] = False

    sigma_min: NoiseLevel = 0.02
    sigma_max: NoiseLevel = 100.0

    @model_validator(mode="after")
    def _sigma_grows(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            message = f"{self.sigma_min:g} is not below sigma_max, {self.sigma_max:g}; give a smaller one"
            raise field_error("VE", ("sigma_min",), message, self.sigma_min)
        return self

    @property
    def _growth(self) -> float:
        """d log(sigma)/dt."""
        return math.log(self.sigma_max / self.sigma_min)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_min * torch.exp(self._growth * t)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), 2 * self._growth * self._alpha_sigma(t)[1].square()

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2 - math.log(self.sigma_min)) / self._growth

    def slope_at_zero(self) -> Slope:
        """sigma_min log(sigma_max/sigma_min)."""
        return Slope(self.sigma_min * self._growth, False)
