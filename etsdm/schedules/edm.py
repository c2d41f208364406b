"""EDM's schedule, and the VP process in EDM's form, with alpha = 1.

Dividing x by alpha turns any schedule into this form, with sigma/alpha in place of sigma and the same log-SNR (Karras et al. 2022,
table 1).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from etsdm.registry import schedules
from etsdm.registry.counts import NoiseLevel
from etsdm.schedules.base import Continuous, Slope
from etsdm.schedules.linear import LinearContinuous

__all__ = ["EDM", "VPEDM"]


@schedules.register("edm")
class EDM(Continuous):
    """sigma = t, so that time is the noise level itself (Karras et al. 2022).

    Attributes:
        sigma_max: last time and largest noise level.
    """

    variance_preserving: ClassVar[bool] = False
    time_is_noise_level: ClassVar[bool] = True

    sigma_max: NoiseLevel = 80.0

    @property
    def domain(self) -> tuple[float, float]:
        """[0, sigma_max]."""
        return 0.0, self.sigma_max

    @property
    def t_min(self) -> float:
        """0.002, the sigma_min of the authors' sampler, or half of sigma_max if that is less."""
        return min(0.002, self.sigma_max / 2)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t.clone()

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), 2 * t

    def _t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr / 2)

    def slope_at_zero(self) -> Slope:
        """1."""
        return Slope(1.0, False)


@schedules.register("vp-edm")
class VPEDM(LinearContinuous):
    """`linear-continuous` divided by its alpha: sigma = sqrt(exp(B(t)) - 1) (Karras et al. 2022, table 1)."""

    variance_preserving: ClassVar[bool] = False

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), torch.sqrt(torch.expm1(self._integral(t)))

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), self._rate(t) * torch.exp(self._integral(t))
