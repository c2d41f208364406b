"""Wrappers: denoisers around a denoiser, with its protocol, so that every sampler and estimator takes them as they are.

A wrapper hands on what it does not change: schedule, condition map and decoding stay those of the denoiser inside, and
coefficients those of the true time. What a wrapper is given for each image, such as labels, is one row for all images, or as
many rows as there are images in a batch. A call of a wrapper is one network call to a sampler, whatever it does inside.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.prediction import Prediction, Predictor
from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["Drawable", "Labelled", "SuperResolved", "Wrapper", "on_device", "rows_for"]


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


class Wrapper:
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
    def num_classes(self) -> int | None:
        """Number of class labels that a call may choose from, None where it takes no label."""
        return self.denoiser.num_classes

    @property
    def rows(self) -> int:
        """Images in a batch, where something is given for each of them; 1 for any number."""
        return self.denoiser.rows if isinstance(self.denoiser, Wrapper) else 1

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """The images of what was denoised, `chunk` at a time."""
        return self.denoiser.decode(x, chunk)

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told at time t, same shape."""
        return self.denoiser.condition(t)

    def level_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape."""
        return self.denoiser.level_time(t)

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), in the target's space; see `Denoiser.output`."""
        return self.denoiser.output(x, t, told=told, **cond)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t); see `Denoiser.predict`."""
        return self.denoiser.predict(x, t, **cond)


class Bound(Wrapper):
    """A denoiser one of whose conditions is fixed."""

    name: ClassVar[str]

    def __init__(self, denoiser: Drawable, value: Tensor) -> None:
        super().__init__(denoiser)
        self._value = value

    @property
    def rows(self) -> int:
        """Rows of the condition, or those inside; see `Wrapper.rows`."""
        return max(len(self._value), super().rows)

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F under the fixed condition; see `Denoiser.output`."""
        return self.denoiser.output(x, t, told=told, **self._given(x, cond))

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """What is predicted under the fixed condition; see `Denoiser.predict`."""
        return self.denoiser.predict(x, t, **self._given(x, cond))

    def _given(self, x: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.name in cond:
            raise ValueError(f"{self.name}: is given to {type(self).__name__} already; leave it out")
        return {**cond, self.name: rows_for(x, self.name, self._value)}


class Labelled(Bound):
    """A class-conditional denoiser with fixed labels, which needs no label any more.

    Args:
        denoiser: with classes.
        y: labels, int64, (1,) or (B,) for batches of B images; or one number for all.

    Raises:
        ValueError: the denoiser has no classes, or not that many.
    """

    name = "y"

    def __init__(self, denoiser: Drawable, y: Tensor | int) -> None:
        labels = torch.as_tensor(y).reshape(-1)
        classes = denoiser.num_classes
        if classes is None:
            raise ValueError("denoiser: has no classes; give a class-conditional one, or leave the labels out")
        for label in labels.tolist():
            if not 0 <= label < classes:
                raise ValueError(f"y: {label} is none of {classes} classes; give 0 to {classes - 1}")
        super().__init__(denoiser, labels)

    @property
    def num_classes(self) -> None:
        """None: the labels are chosen."""
        return None


class SuperResolved(Bound):
    """A super-resolution denoiser that is told fixed small images.

    Args:
        denoiser: whose spec has a `super_resolution`.
        low_res: small images, in [-1, 1], (1, C, H / factor, W / factor) or (B, ...) for batches of B images.
    """

    name = "low_res"

    def __init__(self, denoiser: Drawable, low_res: Tensor) -> None:
        super().__init__(denoiser, low_res)


def rows_for(x: Tensor, name: str, value: Tensor) -> Tensor:
    """One row of a value for each row of x, on its device; refused unless the value has one row, or as many as x."""
    if len(value) not in (1, len(x)):
        raise ValueError(f"{name}: found {len(value)} rows for a batch of {len(x)}; give one, or one for each image")
    return value.to(x.device).expand(len(x), *value.shape[1:])


def on_device(denoiser: Drawable, x: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and conditions where the denoiser computes."""
    return x.to(denoiser.device), {name: value.to(denoiser.device) for name, value in cond.items()}
