"""Noise prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.noise import NoiseTarget

__all__ = ["Eps"]


@targets.register("eps")
class Eps(NoiseTarget):
    """The noise, F = eps (Ho et al. 2020; paper Eq. 4); its optimum is singular in time at t = 0.

    Attributes:
        scale_input: pass x / sqrt(alpha^2 + sigma^2) to the network, the preconditioning of VP and iDDPM networks in Karras et al.
            2022 (table 1); without effect on variance-preserving schedules.
        allow_eps_at_zero_snr: see `NoiseTarget`.
    """

    scale_input: bool = False

    @property
    def scales_input(self) -> bool:
        """`scale_input`."""
        return self.scale_input

    def noise_per_output(self, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def c_in(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1, or 1 / sqrt(alpha^2 + sigma^2)."""
        return 1 / torch.hypot(alpha, sigma) if self.scale_input else torch.ones_like(alpha)
