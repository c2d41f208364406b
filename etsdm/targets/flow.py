"""Flow prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.base import Target

__all__ = ["Flow"]


@targets.register("flow")
class Flow(Target):
    """The direction from image to noise, F = eps - x0 (Liu et al. 2023; Lipman et al. 2023).

    On the linear path alpha = 1 - t, sigma = t it is the velocity dx/dt of rectified flow; on any other schedule it is the same
    difference, not dx/dt.
    """

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """F = -1 x0 + 1 eps."""
        return -torch.ones_like(alpha), torch.ones_like(alpha)
