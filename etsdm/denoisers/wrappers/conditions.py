"""Wrappers that fix a condition: labels, or the small images of super-resolution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.wrappers.base import DenoiserWrapper, Drawable, rows_for

__all__ = ["FixedLabels", "FixedLowRes"]


class FixedCondition(DenoiserWrapper):
    """A denoiser one of whose conditions is fixed."""

    name: ClassVar[str]

    def __init__(self, denoiser: Drawable, value: Tensor) -> None:
        super().__init__(denoiser)
        self._value = value

    @property
    def rows(self) -> int:
        """Rows of the condition, or those inside; see `DenoiserWrapper.rows`."""
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


class FixedLabels(FixedCondition):
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


class FixedLowRes(FixedCondition):
    """A super-resolution denoiser that is told fixed small images.

    Args:
        denoiser: whose spec has a `super_resolution`.
        low_res: small images, in [-1, 1], (1, C, H / factor, W / factor) or (B, ...) for batches of B images.
    """

    name = "low_res"

    def __init__(self, denoiser: Drawable, low_res: Tensor) -> None:
        super().__init__(denoiser, low_res)
