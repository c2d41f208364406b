"""Steps of a trajectory, and the noise source of stochastic ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from etsdm.denoisers.prediction import Prediction

__all__ = ["NoiseSource", "Predicted", "Step", "StepResult"]

Predicted = Literal["eps", "x0"]  # the model output that a solver extrapolates: noise prediction or data prediction


class Step(NamedTuple):
    """One step of a trajectory.

    Fields: i, the step's number from 1; n, how many there are; t, the time it started from; x, the images after it,
    (B, C, H, W); prediction, of the network at t; nfe, network calls so far; order, of accuracy, of the update.
    """

    i: int
    n: int
    t: float
    x: Tensor
    prediction: Prediction
    nfe: int
    order: int = 1

    @property
    def x0(self) -> Tensor:
        """The clean images predicted at t, (B, C, H, W)."""
        return self.prediction.x0


class StepResult(NamedTuple):
    """Result of one solver step: the next sample, the prediction that it used, the order of the update."""

    x: Tensor
    prediction: Prediction
    order: int = 1


class NoiseSource(Protocol):
    """Noise for the steps of a stochastic sampler."""

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next standard normal noise for every sample. Args: shape: of one sample."""
