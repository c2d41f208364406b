"""The exact denoiser of data that are 0 everywhere: x0 = 0, eps = x / sigma."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig, condition_at
from etsdm.denoisers.prediction import ForeignPrediction, Prediction
from etsdm.denoisers.time_point import TimePoint, time_of

__all__ = ["ZeroDenoiser"]


class ZeroDenoiser:
    """A denoiser that costs nothing, with which a sampler's calls can be listed and its use of noise be seen.

    Args:
        config: the schedule, target and condition map that it has.

    Attributes:
        times: the times at which it was called, in order.
    """

    num_classes = None
    shape = (1, 1, 1)
    device = torch.device("cpu")

    def __init__(self, config: DenoiserConfig) -> None:
        self.schedule = config.schedule
        self.target = config.target
        self.condition_map = config.condition_map
        self.time_input = config.time_input
        self.bounded = config.bounded
        self.times: list[float] = []

    def condition(self, t: Tensor) -> Tensor:
        """The value that a network would receive as time, same shape."""
        return condition_at(self, t)

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape."""
        return self.condition_map.noising_time(t, self.schedule)

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F for x0 = 0, whatever the condition."""
        return self.predict(x, t).output

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0 = 0 and eps = x / sigma, with a learned variance half-way between its bounds; t is a number."""
        at = time_of(self, x, t)
        assert isinstance(at, TimePoint)
        self.times.append(float(at))
        zero = torch.zeros_like(x)
        return ForeignPrediction(self, x, at, zero, x / at.sigma, zero)

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """x itself."""
        return x
