"""The protocol of denoisers: what samplers, losses, estimators and metrics call."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from etsdm.denoisers.config import Asked
from etsdm.denoisers.prediction import Prediction

__all__ = ["Predictor"]


@runtime_checkable
class Predictor(Asked, Protocol):
    """What samplers, losses and estimators ask for; trained and exact denoisers have it."""

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told at time t; equal values mean equal outputs at the same x."""

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t: t itself, unless the condition map shares levels too."""

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), in the target's space; with `told`, under that time's condition. A tensor of its own at every call, because
        samplers look at earlier answers."""

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t)."""
