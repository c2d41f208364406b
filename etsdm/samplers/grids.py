"""Time grids: the times at which a sampler calls the network.

A grid is a decreasing sequence of n times in the schedule's unit. After the last one a sampler goes to the clean image,
alpha = 1 and sigma = 0.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import accumulate, repeat

import torch
from torch import Tensor

from etsdm.registry import Part, grids
from etsdm.schedules import Schedule

__all__ = ["Grid", "Leading", "Respaced", "Trailing"]


class Grid(Part, family=grids):
    """Where to step."""

    def times(self, schedule: Schedule, n: int) -> Tensor:
        """The times of the n network calls, decreasing.

        Args:
            schedule: a discrete schedule.
            n: number of steps, 1 to the schedule's T.

        Returns:
            float64, (n,).

        Raises:
            ValueError: n is out of range.
        """
        total = int(schedule.horizon)
        if not 1 <= n <= total:
            raise ValueError(f"steps: {n} steps do not fit a schedule of {total} timesteps; give 1 to {total}")
        return self._indices(total, n).to(torch.float64).flip(0)

    @abstractmethod
    def _indices(self, total: int, n: int) -> Tensor:
        """n increasing indices among 0..total-1."""


@grids.register("leading")
class Leading(Grid):
    """Multiples of T // n from 0 on, the grid of DDIM's code; it never sees the noisiest timesteps unless n = T."""

    def _indices(self, total: int, n: int) -> Tensor:
        return torch.arange(n) * (total // n)


@grids.register("trailing")
class Trailing(Grid):
    """Every T/n-th timestep counted from the end, so that sampling starts at T-1 (Lin et al. 2024)."""

    def _indices(self, total: int, n: int) -> Tensor:
        return (torch.arange(1, n + 1, dtype=torch.float64) * total / n).round().long() - 1


@grids.register("respaced")
class Respaced(Grid):
    """n timesteps from 0 to T-1 at equal distances, rounded, as in guided-diffusion's respacing."""

    def _indices(self, total: int, n: int) -> Tensor:
        stride = (total - 1) / (n - 1) if n > 1 else 0.0
        # Added up and not multiplied, as the original does: the roundings decide which way a half goes.
        return torch.tensor([round(index) for index in accumulate(repeat(stride, n - 1), initial=0.0)])
