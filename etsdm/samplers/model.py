"""The network as solvers see it: asked at points of a path, its answers thresholded and its calls counted.

    x = alpha x0 + sigma eps,   lambda = log(alpha / sigma), half of log-SNR

An answer is x0 and eps that agree with x in this sense, so that any a x0 + b eps is one sum of x and what the network gave.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import Predictor
from etsdm.schedules import Schedule

__all__ = ["CLEAN", "Answer", "CountedModel", "Point", "Stated", "Thresholded"]


class Point(NamedTuple):
    """A time with alpha, sigma and lam = log(alpha/sigma), which is -inf without signal and inf without noise; float64 numbers."""

    t: float
    alpha: float
    sigma: float
    lam: float

    @classmethod
    def at(cls, schedule: Schedule, t: float) -> Point:
        """The point at a time of a schedule."""
        alpha, sigma = schedule.alpha_sigma(t)
        return cls(t, alpha.item(), sigma.item(), schedule.log_snr(t).item() / 2)


CLEAN = Point(math.nan, 1.0, 0.0, math.inf)  # no time of a schedule: on timesteps it is before the first


class Answer(Protocol):
    """What the network says of x at a point: a `Prediction`, or what thresholding makes of one."""

    @property
    def x0(self) -> Tensor:
        """The clean images, (B, C, H, W)."""

    @property
    def eps(self) -> Tensor:
        """The noise that is consistent with them: x = alpha x0 + sigma eps."""

    @property
    def variance_logit(self) -> Tensor | None:
        """Of steps, where the network learns it."""

    def mixed(self, a: float, b: float) -> Tensor:
        """a x0 + b eps, in a new tensor; what has the coefficient 0 is left out."""


class Thresholded(NamedTuple):
    """An answer whose x0 was cut. Fields: x, (B, C, H, W), at point; x0, as it was cut; point; variance_logit or None."""

    x: Tensor
    x0: Tensor
    point: Point
    variance_logit: Tensor | None

    @property
    def eps(self) -> Tensor:
        """The noise that is left of x beside x0."""
        return self.mixed(0, 1)

    def mixed(self, a: float, b: float) -> Tensor:
        """a x0 + b eps, as a sum of x0 and x; see `Answer`."""
        if b == 0:
            return a * self.x0
        _, alpha, sigma, _ = self.point
        return ((a - b * alpha / sigma) * self.x0).add_(self.x, alpha=b / sigma)


class Stated(NamedTuple):
    """An answer of a denoiser that is not ours. Fields: x0 and eps, (B, C, H, W); variance_logit or None."""

    x0: Tensor
    eps: Tensor
    variance_logit: Tensor | None

    def mixed(self, a: float, b: float) -> Tensor:
        """a x0 + b eps; see `Answer`."""
        return a * self.x0 if b == 0 else (b * self.eps if a == 0 else a * self.x0 + b * self.eps)


class CountedModel:
    """A denoiser as solvers ask it: at points, with thresholding, and counted.

    Args:
        denoiser: anything with `predict` and `schedule`.
        cond: what the network takes besides.
        clip_x0: whether x0 is cut to [-1, 1]; None for wherever clean x lie there.
        quantile: of |x0|, to which it is cut instead if that is above 1, and scaled.
    """

    def __init__(
        self, denoiser: Predictor, cond: dict[str, Tensor], *, clip_x0: bool | None = False, quantile: float | None = None
    ) -> None:
        self.schedule = denoiser.schedule
        self.nfe = 0
        self._denoiser = denoiser
        self._cond = cond
        self._cuts = quantile is not None or (denoiser.bounded if clip_x0 is None else clip_x0)
        self._quantile = quantile

    def __call__(self, x: Tensor, point: Point) -> Answer:
        """Asks at a point. Args: x: (B, C, H, W), as noisy as the point."""
        self.nfe += 1
        prediction = self._denoiser.predict(x, point.t, **self._cond)
        if not isinstance(prediction, Prediction):
            logit = getattr(prediction, "variance_logit", None)
            stated = Stated(prediction.x0.to(x.dtype), prediction.eps.to(x.dtype), logit)
            return Thresholded(x, self._cut(stated.x0), point, logit) if self._cuts else stated
        if not self._cuts:
            return prediction
        # Its x, because a prediction may be of another one: inpainting puts what is known in its place.
        return Thresholded(prediction.x, prediction.x0_cut(self._cut), point, prediction.variance_logit)

    def _cut(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1) if self._quantile is None else _dynamically(x0, self._quantile)


def _dynamically(x0: Tensor, quantile: float) -> Tensor:
    """x0 cut at a quantile of its magnitudes, image by image, and scaled into [-1, 1] (Saharia et al. 2022, Imagen)."""
    wide = x0.to(torch.promote_types(x0.dtype, torch.float32))  # quantiles of half precision there are none
    largest = wide.abs().flatten(1).quantile(quantile, dim=1).clamp(min=1).to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-largest, largest) / largest
