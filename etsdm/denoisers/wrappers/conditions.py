"""Wrappers that fix a condition: class labels, or the low-resolution images of super-resolution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.wrappers.base import DenoiserWrapper, rows_for

__all__ = ["FixedLabels", "FixedLowRes"]


class FixedCondition(DenoiserWrapper):
    """A denoiser one of whose conditions is fixed."""

    name: ClassVar[str]

    def __init__(self, denoiser: DenoiserLike, value: Tensor) -> None:
        super().__init__(denoiser)
        self._value = value

    @property
    def rows(self) -> int:
        """Rows of the condition, or of those inside; see `DenoiserWrapper.rows`."""
        return max(len(self._value), super().rows)

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F under the fixed condition; see `Denoiser.output`."""
        return self.denoiser.output(x, t, condition_t=condition_t, **self._with_condition(x, cond))

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """The prediction under the fixed condition; see `Denoiser.predict`."""
        return self.denoiser.predict(x, t, **self._with_condition(x, cond))

    def _with_condition(self, x: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.name in cond:
            raise ValueError(f"{self.name}: is given to {type(self).__name__} already; leave it out")
        return {**cond, self.name: rows_for(x, self.name, self._value)}


class FixedLabels(FixedCondition):
    """A class-conditional denoiser with fixed labels, called without any.

    Args:
        denoiser: with classes.
        y: labels, int64, (1,) or (B,) for batches of B images; or one number for all.

    Raises:
        ValueError: the denoiser has no classes, or not that many.
    """

    name = "y"

    def __init__(self, denoiser: DenoiserLike, y: Tensor | int) -> None:
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
        """None: the labels are fixed."""
        return None


class FixedLowRes(FixedCondition):
    """A super-resolution denoiser with fixed low-resolution images.

    Args:
        denoiser: whose spec has a `super_resolution`.
        low_res: low-resolution images, in [-1, 1], (1, C, H / factor, W / factor) or (B, ...) for batches of B images.
    """

    name = "low_res"

    def __init__(self, denoiser: DenoiserLike, low_res: Tensor) -> None:
        super().__init__(denoiser, low_res)
