"""Samplers: from noise to images, as iterators over steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from etsdm.denoiser import Predictor
from etsdm.randomness import SampleNoise
from etsdm.registry import Part, samplers
from etsdm.schedules import Schedule

__all__ = ["NoiseSource", "Sampler", "Step"]


class Step(NamedTuple):
    """One step of a trajectory.

    Fields: i, the step's number from 1; n, how many there are; t, the time it started from; x, the images after it,
    (B, C, H, W); x0, the clean images predicted at t; nfe, network calls so far.
    """

    i: int
    n: int
    t: float
    x: Tensor
    x0: Tensor
    nfe: int


class NoiseSource(Protocol):
    """Where a stochastic sampler takes its noise from."""

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next standard normal noise for every sample; shape is that of one sample."""


class Sampler(Part, family=samplers):
    """A way from noise to images that calls the network `steps` times."""

    @abstractmethod
    def times(self, schedule: Schedule) -> Tensor:
        """The times of the network calls, decreasing; float64, (n,)."""

    @abstractmethod
    def _trajectory(self, denoiser: Predictor, x: Tensor, noise: NoiseSource, cond: dict[str, Tensor]) -> Iterator[Step]:
        """Yields the steps; gradients are off."""

    def trajectory(self, denoiser: Predictor, noise: Tensor, step_noise: NoiseSource | None = None, **cond: Tensor) -> Iterator[Step]:
        """Yields each step from noise to images.

        Args:
            denoiser: anything with `predict` and `schedule`.
            noise: standard normal noise to start from, (B, C, H, W), in the dtype and on the device of the images.
            step_noise: noise for stochastic steps; by default drawn from the stream "sampling/steps" of seed 0.
            **cond: what the network takes besides, for example labels `y` of shape (B,).

        Yields:
            `Step`s; the images are `x` of the last.
        """
        source = step_noise or SampleNoise(0, "sampling/steps", range(len(noise)))
        steps = self._trajectory(denoiser, noise, source, cond)
        while True:
            # Only while a step is computed: a caller's own code between steps keeps its own mode.
            with torch.no_grad():
                step = next(steps, None)
            if step is None:
                return
            yield step
