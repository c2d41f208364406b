"""Inpainting by replacement: part of the image is known, the rest is drawn (Song, Sohl-Dickstein et al. 2021, appendix I.2).

At every call, with a mask m that is 1 where the image is known and noise eps that stays the same,

    x'  = m (alpha known + sigma eps) + (1 - m) x

is what the denoiser is asked, and the answer has x0 = known and eps in the known part. A sampler whose last step gives x0 itself, as
that to the clean image does of most, so ends at exactly the known image there; `lms` and `plms` do up to rounding, and `analytic`
draws a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction, levels
from etsdm.denoisers.wrappers.base import DenoiserWrapper, Drawable, rows_for

__all__ = ["Inpainting"]


class PartlyKnown(Prediction):
    """A prediction whose x0 and eps are known where a mask says so; said, of which output and x are in order already."""

    def __init__(self, said: Prediction, mask: Tensor, x0: Tensor, eps: Tensor, output: Tensor) -> None:
        super().__init__(said.x, output, said.coefficients, said.alpha, said.sigma, said.variance_logit)
        self._said = said
        self._mask = mask
        self._known = x0, eps

    @cached_property
    def x0(self) -> Tensor:
        """The clean images, exactly the known ones where they are known."""
        return torch.where(self._mask, self._known[0], self._said.x0)

    @cached_property
    def eps(self) -> Tensor:
        """The noise, exactly the given one where the images are known."""
        return torch.where(self._mask, self._known[1], self._said.eps)

    def x0_cut(self, cut: Callable[[Tensor], Tensor]) -> Tensor:
        """The clean images, cut where they are not known; see `Prediction.x0_cut`."""
        return torch.where(self._mask, self._known[0], cut(self.x0))

    def mixed(self, a: float, b: float) -> Tensor:
        """a x0 + b eps, of the known ones where they are known; see `Prediction.mixed`."""
        x0, eps = self._known
        return torch.where(self._mask, a * x0 + b * eps, self._said.mixed(a, b))


class Inpainting(DenoiserWrapper):
    """A denoiser that knows part of the image; where it wraps other wrappers it is the outermost.

    Args:
        denoiser: of the whole image.
        known: clean images, in the space of what is denoised, (1, C, H, W) or (B, C, H, W) for batches of B.
        mask: bool, true where they are known, (1, 1, H, W), or any shape that broadcasts to that of `known`.
        noise: standard normal noise of the known part, in the shape of `known`, or one row. The noise that sampling starts from,
            over its first sigma, makes a trajectory agree with it from the start.

    Raises:
        ValueError: the shapes do not fit, or the mask is not of booleans.
    """

    def __init__(self, denoiser: Drawable, known: Tensor, mask: Tensor, noise: Tensor) -> None:
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

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x', t), that of the known images where they are known; see `Denoiser.output`."""
        mask, known, noise = self._parts(x)
        alpha, sigma = levels(self, x, t)
        output = self.denoiser.output(_replaced(x, mask, known, noise, alpha, sigma), t, told=told, **cond)
        return torch.where(mask, self.target.training_target(known, noise, alpha, sigma), output)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """What is known, and predicted of the rest, at (x', t); see `Denoiser.predict`."""
        mask, known, noise = self._parts(x)
        alpha, sigma = levels(self, x, t)
        said = self.denoiser.predict(_replaced(x, mask, known, noise, alpha, sigma), t, **cond)
        output = torch.where(mask, self.target.training_target(known, noise, alpha, sigma), said.output)
        return PartlyKnown(said, mask, known, noise, output)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = rows_for(x, "mask", self._mask)
        return mask, rows_for(x, "known", self._known).to(x.dtype), rows_for(x, "noise", self._noise).to(x.dtype)


def _replaced(x: Tensor, mask: Tensor, known: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.where(mask, alpha.to(x.dtype) * known + sigma.to(x.dtype) * noise, x)
