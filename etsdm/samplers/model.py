"""The denoiser as solvers call it: at points of a path, with x0 clipped, and counted."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.denoisers.prediction import ForeignPrediction, Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.time_point import TimePoint

__all__ = ["CountedModel"]


class CountedModel:
    """A denoiser with its conditions, whose calls are counted and whose x0 may be clipped.

    Args:
        denoiser: anything with the protocol; what a third-party one predicts is converted here, once.
        cond: further inputs of the network.
        clip_x0: whether x0 is clipped to [-1, 1]; None for wherever clean x lie there.
        dynamic_threshold: the quantile of |x0| to which it is clipped instead if that is above 1, and scaled.

    Attributes:
        nfe: network calls so far.
    """

    def __init__(
        self, denoiser: DenoiserLike, cond: dict[str, Tensor], *, clip_x0: bool | None = False, dynamic_threshold: float | None = None
    ) -> None:
        self.denoiser = denoiser
        self.nfe = 0
        self._cond = cond
        self._clips = dynamic_threshold is not None or (denoiser.bounded if clip_x0 is None else clip_x0)
        self._quantile = dynamic_threshold

    def __call__(self, x: Tensor, t: TimePoint) -> Prediction:
        """The prediction for x, (B, C, H, W), at a point."""
        self.nfe += 1
        prediction = self.denoiser.predict(x, t, **self._cond)
        if not isinstance(prediction, Prediction):
            logit = getattr(prediction, "variance_logit", None)
            prediction = ForeignPrediction(self.denoiser, x, t, prediction.x0, prediction.eps, logit)
        return prediction.with_clipped_x0(self._clip) if self._clips else prediction

    def points(self, times: Tensor) -> list[TimePoint]:
        """Points beside those of the path, made in one call. Args: times: float64, (N,)."""
        return TimePoint.path(self.denoiser, times) if len(times) else []

    def _clip(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1) if self._quantile is None else _dynamic_threshold(x0, self._quantile)


def _dynamic_threshold(x0: Tensor, quantile: float) -> Tensor:
    """x0 clipped at a quantile of its magnitudes, image by image, and scaled into [-1, 1] (Saharia et al. 2022, Imagen)."""
    wide = x0.to(torch.promote_types(x0.dtype, torch.float32))  # torch has no quantiles of half precision
    largest = wide.abs().flatten(1).quantile(quantile, dim=1).clamp(min=1).to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-largest, largest) / largest
