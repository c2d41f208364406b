"""Streaming mean, standard error and maximum of values that come in batches.

Two batches of n and m values with means a and b and sums of squared deviations A and B make one of n + m values with

    mean a + (b - a) m / (n + m),   sum of squares A + B + (b - a)^2 n m / (n + m)          (Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Moments"]


class Moments:
    """Running mean, standard error and maximum of M quantities. Args: m: number of quantities."""

    def __init__(self, m: int) -> None:
        self.n = 0
        self.mean = torch.zeros(m, dtype=torch.float64)
        self.largest = torch.full((m,), -torch.inf, dtype=torch.float64)
        self._squares = torch.zeros(m, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Adds one batch. Args: values: float64, (M, B), B at least 1."""
        n = values.shape[1]
        total = self.n + n
        mean = values.mean(1)
        gap = mean - self.mean
        self._squares += (values - mean[:, None]).square().sum(1) + gap.square() * (self.n * n / total)
        self.mean += gap * (n / total)
        self.largest = torch.maximum(self.largest, values.amax(1))
        self.n = total

    @property
    def se(self) -> Tensor:
        """Standard error of the mean, (M,); NaN for a single value."""
        if self.n < 2:
            return torch.full_like(self.mean, torch.nan)
        return (self._squares / (self.n - 1) / self.n).sqrt()
