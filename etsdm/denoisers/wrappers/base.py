"""Wrappers: denoisers around a denoiser, with its protocol, so that every sampler and estimator takes them as they are.

A wrapper hands on what it does not change: schedule, condition map and decoding stay those of the denoiser inside, and
coefficients those of the true time. What a wrapper is given for each image, such as labels, is one row for all images, or as
many rows as there are images in a batch. A call of a wrapper is one network call to a sampler, whatever it does inside.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import Predictor
from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["DenoiserWrapper", "Drawable", "on_device", "rows_for"]


class Drawable(Predictor, Protocol):
    """What images are drawn from: a `Denoiser`, an exact one, or one with something wrapped around it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, or of whatever is denoised."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, None for an unconditional denoiser."""

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """The images of what was denoised, so many at a time, in [-1, 1]; of an exact denoiser x itself."""


class DenoiserWrapper:
    """A denoiser that asks another one.

    Args:
        denoiser: trained, exact, or a wrapper itself.
    """

    schedule: Schedule
    target: Target
    condition_map: ConditionMap

    def __init__(self, denoiser: Drawable) -> None:
        self.denoiser = denoiser
        self.schedule = denoiser.schedule
        self.target = denoiser.target
        self.condition_map = denoiser.condition_map

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, or of whatever is denoised."""
        return self.denoiser.shape

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.denoiser.device

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1]."""
        return self.denoiser.bounded

    @property
    def learns_variance(self) -> bool:
        """Whether predictions carry a variance for sampling steps."""
        return self.denoiser.learns_variance

    @property
    def num_classes(self) -> int | None:
        """Number of class labels that a call may choose from, None where it takes no label."""
        return self.denoiser.num_classes

    @property
    def rows(self) -> int:
        """Images in a batch, where something is given for each of them; 1 for any number."""
        return self.denoiser.rows if isinstance(self.denoiser, DenoiserWrapper) else 1

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """The images of what was denoised, `chunk` at a time."""
        return self.denoiser.decode(x, chunk)

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told at time t, same shape."""
        return self.denoiser.condition(t)

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape."""
        return self.denoiser.noising_time(t)

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), in the target's space; see `Denoiser.output`."""
        return self.denoiser.output(x, t, told=told, **cond)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t); see `Denoiser.predict`."""
        return self.denoiser.predict(x, t, **cond)


def rows_for(x: Tensor, name: str, value: Tensor) -> Tensor:
    """One row of a value for each row of x, on its device; refused unless the value has one row, or as many as x."""
    if len(value) not in (1, len(x)):
        raise ValueError(f"{name}: found {len(value)} rows for a batch of {len(x)}; give one, or one for each image")
    return value.to(x.device).expand(len(x), *value.shape[1:])


def on_device(denoiser: Drawable, x: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and conditions where the denoiser computes."""
    return x.to(denoiser.device), {name: value.to(denoiser.device) for name, value in cond.items()}
