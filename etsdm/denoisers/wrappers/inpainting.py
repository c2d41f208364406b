"""Inpainting by replacement: part of the image is known, the rest is sampled (Song, Sohl-Dickstein et al. 2021, appendix I.2).

At every call, with a mask m that is 1 where the image is known and noise eps that stays the same,

    x'  = m (alpha known + sigma eps) + (1 - m) x

is the denoiser's input, and its prediction has x0 = known and eps inside the mask. A sampler whose last step gives x0 itself, as that
to the clean image does of most, so ends at exactly the known image there; `lms` and `plms` do up to rounding, and `analytic` draws a
new one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from etsdm.denoisers.prediction import ClippedPrediction, Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.time_point import alpha_sigma_like
from etsdm.denoisers.wrappers.base import DenoiserWrapper, rows_for

__all__ = ["Inpainting"]


class InpaintedPrediction(Prediction):
    """A prediction whose x0 and eps are the known ones inside a mask.

    Args:
        prediction: of the whole image.
        mask: bool, true where the image is known, in the shape of x.
        x0: the known clean image, same shape.
        eps: its noise, same shape.
        output: F, consistent with both.
    """

    def __init__(self, prediction: Prediction, mask: Tensor, x0: Tensor, eps: Tensor, output: Tensor) -> None:
        super().__init__(prediction.x, output, prediction.at, prediction.variance_logit)
        self._prediction = prediction
        self._mask = mask
        self._known = x0, eps

    @cached_property
    def x0(self) -> Tensor:
        """The clean images, exactly the known ones inside the mask."""
        return torch.where(self._mask, self._known[0], self._prediction.x0)

    @cached_property
    def eps(self) -> Tensor:
        """The noise, exactly the given one inside the mask."""
        return torch.where(self._mask, self._known[1], self._prediction.eps)

    def combine(self, *, x0: float, eps: float) -> Tensor:
        """x0 * (x0) + eps * (eps), of the known ones inside the mask; see `Prediction.combine`."""
        known_x0, known_eps = self._known
        return torch.where(self._mask, x0 * known_x0 + eps * known_eps, self._prediction.combine(x0=x0, eps=eps))

    def with_clipped_x0(self, clip: Callable[[Tensor], Tensor]) -> ClippedPrediction:
        """This prediction with x0 clipped outside the mask; see `Prediction.with_clipped_x0`."""
        return ClippedPrediction(self, torch.where(self._mask, self._known[0], clip(self.x0)))


class Inpainting(DenoiserWrapper):
    """A denoiser of an image that is known in part; where it wraps other wrappers it is the outermost.

    Args:
        denoiser: of the whole image.
        known: clean images, in the space of what is denoised, (1, C, H, W) or (B, C, H, W) for batches of B.
        mask: bool, true where they are known, (1, 1, H, W), or any shape that broadcasts to that of `known`.
        noise: standard normal noise of the known part, in the shape of `known`, or one row. The noise that sampling starts from,
            over its first sigma, makes a trajectory agree with it from the start.

    Raises:
        ValueError: the shapes do not fit, or the mask is not of booleans.
    """

    def __init__(self, denoiser: DenoiserLike, known: Tensor, mask: Tensor, noise: Tensor) -> None:
        super().__init__(denoiser)
        if mask.dtype != torch.bool:
            raise ValueError(f"mask: found {str(mask.dtype).removeprefix('torch.')}; give booleans, true where the image is known")
        for name, value in (("mask", mask), ("noise", noise)):
            if value.ndim != known.ndim or any(n not in (1, m) for n, m in zip(value.shape, known.shape, strict=True)):
                raise ValueError(f"{name}: its shape {tuple(value.shape)} does not fit {tuple(known.shape)} of the known images")
        self._known = known
        self._mask = mask.expand(known.shape)
        self._noise = noise.expand(known.shape)

    @property
    def rows(self) -> int:
        """Known images, or rows inside; see `DenoiserWrapper.rows`."""
        return max(len(self._known), super().rows)

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x', t), that of the known images where they are known; see `Denoiser.output`."""
        mask, known, noise = self._parts(x)
        alpha, sigma = alpha_sigma_like(x, self, t)
        output = self.denoiser.output(_replaced(x, mask, known, noise, alpha, sigma), t, condition_t=condition_t, **cond)
        return torch.where(mask, self.target.training_target(known, noise, alpha, sigma), output)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """The prediction at (x', t), that of the known images inside the mask; see `Denoiser.predict`."""
        mask, known, noise = self._parts(x)
        alpha, sigma = alpha_sigma_like(x, self, t)
        prediction = self.denoiser.predict(_replaced(x, mask, known, noise, alpha, sigma), t, **cond)
        output = torch.where(mask, self.target.training_target(known, noise, alpha, sigma), prediction.output)
        return InpaintedPrediction(prediction, mask, known, noise, output)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = rows_for(x, "mask", self._mask)
        return mask, rows_for(x, "known", self._known).to(x.dtype), rows_for(x, "noise", self._noise).to(x.dtype)


def _replaced(x: Tensor, mask: Tensor, known: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.where(mask, alpha.to(x.dtype) * known + sigma.to(x.dtype) * noise, x)
