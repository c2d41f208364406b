"""The linear path of rectified flow and flow matching."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from etsdm.registry import schedules
from etsdm.schedules.base import Continuous, Slope

__all__ = ["Flow"]


@schedules.register("flow")
class Flow(Continuous):
    """alpha = 1 - t, sigma = t; not variance-preserving (Liu et al. 2023; Lipman et al. 2023)."""

    variance_preserving: ClassVar[bool] = False

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t.clone()

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), 2 * t

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).sigmoid()

    def slope_at_zero(self) -> Slope:
        """1."""
        return Slope(1.0, False)
