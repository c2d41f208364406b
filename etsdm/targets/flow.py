"""Flow prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.registry import targets
from etsdm.targets.base import Target

__all__ = ["Flow"]


@targets.register("flow")
class Flow(Target):
    """The velocity of rectified flow, F = eps - x0 (Liu et al. 2023; Lipman et al. 2023).

    It is dx/dt on the linear path alpha = 1 - t, sigma = t only; on other schedules it is the same difference.
    """

    def output_weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of F = -1 x0 + 1 eps."""
        return -torch.ones_like(alpha), torch.ones_like(alpha)
