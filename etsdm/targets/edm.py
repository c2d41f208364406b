"""The preconditioned target of EDM, of either sign.

Karras et al. 2022 (table 1) define it for images y = x0 + s eps, with alpha = 1:

    x0 = c_skip y + c_out F,   c_skip = sd^2 / (s^2 + sd^2),   c_out = s sd / sqrt(s^2 + sd^2),   c_in = 1 / sqrt(s^2 + sd^2),

where sd is the standard deviation of the data: input and ideal output have unit variance at each s. With y = x / alpha and
s = sigma / alpha this is, at any (alpha, sigma) and without dividing by either,

    F = sigma / (sd r) x0 - sd alpha / r eps,   c_in = 1 / r on x,   r = sqrt(sigma^2 + alpha^2 sd^2).

-F is the velocity of x0 / sd, with the coefficients sd alpha / r and sigma / r, whose squares add up to 1: the v-prediction of diffusers'
EDM schedulers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.registry.counts import NoiseLevel
from etsdm.targets.base import Target

__all__ = ["EDM", "EDMV"]


class Preconditioned(Target):
    """Target whose input is scaled to unit variance.

    Attributes:
        sigma_data: standard deviation of the data.
    """

    sigma_data: NoiseLevel = 0.5

    @property
    def data_std(self) -> float:
        """sigma_data."""
        return self.sigma_data

    def c_in(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 / r, the inverse of the standard deviation of x."""
        return 1 / self._r(alpha, sigma)

    def _r(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.hypot(sigma, self.sigma_data * alpha)


@targets.register("edm")
class EDM(Preconditioned):
    """The preconditioned target of EDM, a combination of x0 and eps with unit variance (Karras et al. 2022, table 1).

    Attributes:
        sigma_data: see `Preconditioned`.
    """

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """F = sigma / (sd r) x0 - sd alpha / r eps."""
        r = self._r(alpha, sigma)
        return sigma / (self.sigma_data * r), -self.sigma_data * alpha / r


@targets.register("edm-v")
class EDMV(Preconditioned):
    """The target of EDM with the other sign, the velocity of data scaled to unit variance (`EDMEulerScheduler` with v_prediction).

    Attributes:
        sigma_data: see `Preconditioned`.
    """

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """F = sd alpha / r eps - sigma / (sd r) x0."""
        r = self._r(alpha, sigma)
        return -sigma / (self.sigma_data * r), self.sigma_data * alpha / r
