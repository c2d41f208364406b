"""Samplers: from noise to images, as iterators over steps."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from etsdm.denoiser import Predictor
from etsdm.randomness import SampleNoise
from etsdm.registry import Part, samplers
from etsdm.schedules import Schedule
from etsdm.targets import Target

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


class Asked(Protocol):
    """What a sampler has to know of a denoiser before it calls it; a denoiser's spec has it too."""

    @property
    def schedule(self) -> Schedule:
        """The noise schedule."""

    @property
    def target(self) -> Target:
        """What the network predicts."""


class Sampler(Part, family=samplers):
    """A way from noise to images that calls the network `steps` times."""

    @abstractmethod
    def _times(self, schedule: Schedule) -> Tensor:
        """Where the grid asks the network, decreasing; float64, (n,)."""

    def times(self, denoiser: Asked) -> Tensor:
        """The times of the network calls.

        Where alpha = 0 noise prediction says nothing of x0. A denoiser that predicts it all the same (`allow_eps_at_zero_snr`)
        is asked one step later: at T-2 of a discrete schedule, a thousandth of the horizon before the end of a continuous one.

        Args:
            denoiser: a denoiser, or its spec.

        Returns:
            Decreasing, float64, (n,).

        Warns:
            UserWarning: the first time was moved.
        """
        times = self._times(denoiser.schedule)
        if not denoiser.target.needs_signal or denoiser.schedule.alpha(times[0]) != 0:
            return times
        schedule = denoiser.schedule
        start = times[:1] - schedule.step
        message = f"alpha = 0 at t = {times[0]:g}, where target {denoiser.target.type_name!r} does not give x0"
        warnings.warn(f"{message}: sampling starts from t = {start[0]:g}", stacklevel=2)
        return torch.cat([start, times[1:][times[1:] < start]])

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
