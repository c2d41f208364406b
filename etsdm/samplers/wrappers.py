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
from etsdm.denoiser import Prediction, Predictor
from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["Labelled", "SuperResolved", "Wrapped", "Wrapper", "levels", "prediction", "rows_for"]


class Wrapped(Predictor, Protocol):
    """What a wrapper asks for: a predictor that says of what shape, and where, its images are."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, or of whatever is denoised."""

    @property
    def device(self) -> torch.device:
        """Where images go."""

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, None for an unconditional denoiser."""


class Wrapper:
    """A denoiser that asks another one.

    Args:
        denoiser: trained, exact, or a wrapper itself.
    """

    schedule: Schedule
    target: Target
    condition_map: ConditionMap

    def __init__(self, denoiser: Wrapped) -> None:
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
        """Where images go."""
        return self.denoiser.device

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1]."""
        return self.denoiser.bounded

    @property
    def num_classes(self) -> int | None:
        """Number of class labels that a call may choose from, None where it takes no label."""
        return self.denoiser.num_classes

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """The images of what was denoised, `chunk` at a time; x itself where the denoiser inside has no `decode`."""
        decode = getattr(self.denoiser, "decode", None)
        return x if decode is None else decode(x, chunk)

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

    def __init__(self, denoiser: Wrapped, value: Tensor) -> None:
        super().__init__(denoiser)
        self._value = value

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

    def __init__(self, denoiser: Wrapped, y: Tensor | int) -> None:
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

    def __init__(self, denoiser: Wrapped, low_res: Tensor) -> None:
        super().__init__(denoiser, low_res)


def rows_for(x: Tensor, name: str, value: Tensor) -> Tensor:
    """One row of a value for each row of x, on its device; refused unless the value has one row, or as many as x."""
    if len(value) not in (1, len(x)):
        raise ValueError(f"{name}: found {len(value)} rows for a batch of {len(x)}; give one, or one for each image")
    return value.to(x.device).expand(len(x), *value.shape[1:])


def levels(denoiser: Predictor, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """alpha and sigma at times t, float64, () or (B, 1, ...) like x."""
    alpha, sigma = denoiser.schedule.alpha_sigma(t.to(x.device) if isinstance(t, Tensor) else t)
    shape = (-1, *[1] * (x.ndim - 1)) if alpha.ndim else ()
    return alpha.reshape(shape), sigma.reshape(shape)


def prediction(denoiser: Predictor, x: Tensor, t: Tensor | float, output: Tensor, variance_logit: Tensor | None = None) -> Prediction:
    """What an output in the denoiser's target says of x at t."""
    alpha, sigma = levels(denoiser, x, t)
    return Prediction(x, output, denoiser.target.coefficients(alpha, sigma), alpha, sigma, variance_logit)
