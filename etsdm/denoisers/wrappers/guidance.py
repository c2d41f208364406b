"""Classifier-free guidance, everywhere or in an interval of noise levels.

    F = F_u + w (F_c - F_u)

with F_c told the label and F_u told the null label (Ho and Salimans 2021, with their 1 + w as w). x0, eps, v and the score are
linear in F at a given x, so they are guided alike. In an interval guidance acts where low < sigma/alpha <= high, and F_c alone
is used elsewhere (Kynkaanniemi et al. 2024, whose levels are sigma at alpha = 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction, predicted
from etsdm.denoisers.wrappers.base import DenoiserWrapper, Drawable
from etsdm.errors import PartError

__all__ = ["ClassifierFreeGuidance"]


class ClassifierFreeGuidance(DenoiserWrapper):
    """A class-conditional denoiser with classifier-free guidance.

    Both outputs come from one call with every image twice in it, which a sampler counts as one network call. A learned variance is
    that of the conditional output.

    Args:
        denoiser: with classes, one of which is the null label. A wrapper that has something for each image of a batch goes around
            this one, not into it.
        scale: w; 1 for the conditional output alone, 0 for the unconditional one.
        interval: (low, high], the noise levels sigma/alpha at which it is guided; None for all.
        null: the null label; None for the last of the denoiser's classes, which is then no class of this one.

    Raises:
        PartError: the denoiser has no two classes or something for each image, the null label is none of the classes, or the
            interval is empty.
    """

    def __init__(self, denoiser: Drawable, scale: float, interval: tuple[float, float] | None = None, *, null: int | None = None) -> None:
        super().__init__(denoiser)
        classes = denoiser.num_classes
        if classes is None or classes < 2:
            raise PartError("denoiser", f"has {classes or 'no'} classes; give one with a null label beside its classes")
        if isinstance(denoiser, DenoiserWrapper) and denoiser.rows > 1:
            message = f"{type(denoiser).__name__} inside has {denoiser.rows} rows, one for each image, and guidance asks of each twice"
            raise PartError("denoiser", f"{message}; wrap it around Guided instead")
        if null is not None and not 0 <= null < classes:
            raise PartError("null", f"{null} is none of {classes} labels; give 0 to {classes - 1}")
        if interval is not None and not 0 <= interval[0] < interval[1]:
            raise PartError("interval", f"no noise level lies in ({interval[0]:g}, {interval[1]:g}]; give 0 or more, the lower one first")
        self.scale = scale
        self.interval = interval
        self.null = classes - 1 if null is None else null
        self._classes = classes - 1 if null is None else classes

    @property
    def num_classes(self) -> int:
        """Number of class labels, without a null label that comes last."""
        return self._classes

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """The guided F at (x, t), with labels `y`, (B,); see `Denoiser.output`."""
        weight = self._weight(t)
        if (weight == 1).all():
            return self.denoiser.output(x, t, told=told, **self._labelled(cond))
        both = self.denoiser.output(_twice(x), _each_twice(t), told=None if told is None else _each_twice(told), **self._both(cond))
        return _guided(both, weight)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """What the guided F says at (x, t), with labels `y`, (B,); see `Denoiser.predict`."""
        weight = self._weight(t)
        if (weight == 1).all():
            return self.denoiser.predict(x, t, **self._labelled(cond))
        both = self.denoiser.predict(_twice(x), _each_twice(t), **self._both(cond))
        variance_logit = None if both.variance_logit is None else both.variance_logit[: len(x)]
        return predicted(self, both.x[: len(x)], t, _guided(both.output, weight), variance_logit)

    def _weight(self, t: Tensor | float) -> Tensor:
        """w at times t, float64, same shape."""
        log_snr = self.schedule.log_snr(t)
        if self.interval is None:
            return torch.full_like(log_snr, self.scale)
        level, (low, high) = torch.exp(-log_snr / 2), self.interval
        return torch.where((level > low) & (level <= high), self.scale, 1.0)

    def _labelled(self, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        if "y" not in cond:
            raise PartError("y", "the labels are missing, towards which is guided; give them, or wrap in Labelled")
        return cond

    def _both(self, cond: dict[str, Tensor]) -> dict[str, Any]:
        labels = self._labelled(cond)["y"]
        twice = {name: _twice(value) for name, value in cond.items()}
        return {**twice, "y": torch.cat([labels, torch.full_like(labels, self.null)])}


def _twice(value: Tensor) -> Tensor:
    return torch.cat([value, value])


def _each_twice(t: Tensor | float) -> Tensor | Any:
    return _twice(t) if isinstance(t, Tensor) and t.numel() > 1 else t


def _guided(both: Tensor, weight: Tensor) -> Tensor:
    conditional, unconditional = both.chunk(2)
    # From the conditional one, so that a weight of 1 in a batch of several times changes nothing.
    beyond = (weight - 1).to(both)
    if beyond.ndim:
        beyond = beyond.reshape(-1, *[1] * (both.ndim - 1))
    return conditional + beyond * (conditional - unconditional)
