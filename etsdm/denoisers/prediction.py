"""Predictions: x0, eps, v and score from a network's output.

The output F of a network is one of four things that follow from each other at a known x = alpha x0 + sigma eps:

    x0 = c_skip x + c_out F,   eps = e_skip x + e_out F,   v = alpha eps - sigma x0,   score = -eps / sigma

(see `etsdm.targets`). At a time that is a number the coefficients are numbers, and each of these is one sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Self

from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.time_point import TimeBatch, TimePoint, time_of

__all__ = ["ClippedPrediction", "ForeignPrediction", "Prediction"]


class Prediction:
    """x0, eps, v and score that a network's output gives for x at time t.

    Args:
        x: noisy images, (B, C, H, W).
        output: the network's output F, same shape.
        at: alpha, sigma and the target's coefficients at t.
        variance_logit: the network's second half, where it learns the variance of sampling steps; same shape as x.
    """

    def __init__(self, x: Tensor, output: Tensor, at: TimePoint | TimeBatch, variance_logit: Tensor | None = None) -> None:
        self.x = x
        self.output = output
        self.at = at
        self.variance_logit = variance_logit

    @classmethod
    def from_output(
        cls, denoiser: DenoiserConfig, x: Tensor, t: Tensor | float, output: Tensor, variance_logit: Tensor | None = None
    ) -> Self:
        """The prediction of an output in the denoiser's target for x at t; arguments as those of `Prediction` and `Denoiser.output`."""
        return cls(x, output, time_of(denoiser, x, t), variance_logit)

    @cached_property
    def x0(self) -> Tensor:
        """The clean images, E[x0 | x]."""
        return _sum(self.at.c_skip, self.x, self.at.c_out, self.output)

    @cached_property
    def eps(self) -> Tensor:
        """The noise, E[eps | x]."""
        return _sum(self.at.e_skip, self.x, self.at.e_out, self.output)

    @property
    def v(self) -> Tensor:
        """The velocity, alpha eps - sigma x0."""
        # Put together in float64, so that v of a v-network is F itself.
        at = self.at
        return _sum(at.alpha * at.e_skip - at.sigma * at.c_skip, self.x, at.alpha * at.e_out - at.sigma * at.c_out, self.output)

    @property
    def score(self) -> Tensor:
        """The score of the noisy density, -eps / sigma; not a number at sigma = 0."""
        sigma = self.at.sigma
        return -self.eps / (sigma.to(self.x.dtype) if isinstance(sigma, Tensor) else sigma)

    def combine(self, *, x0: float, eps: float) -> Tensor:
        """The sum x0 * (predicted x0) + eps * (predicted eps), in a new tensor.

        It is one sum of x and F. A term whose coefficient is 0 is left out, were its prediction infinite.
        """
        at = self.at
        if eps == 0:
            skip, out = x0 * at.c_skip, x0 * at.c_out
        elif x0 == 0:
            skip, out = eps * at.e_skip, eps * at.e_out
        else:
            skip, out = x0 * at.c_skip + eps * at.e_skip, x0 * at.c_out + eps * at.e_out
        combined = _sum(skip, self.x, out, self.output)
        return combined.clone() if combined is self.output else combined

    def with_clipped_x0(self, clip: Callable[[Tensor], Tensor]) -> ClippedPrediction:
        """This prediction with clip(x0) for x0, and the eps that agrees with it and x."""
        return ClippedPrediction(self, clip(self.x0))

    def __repr__(self) -> str:
        t = f"t={float(self.at):g}, " if isinstance(self.at, TimePoint) else ""
        return f"{type(self).__name__}({t}shape={tuple(self.x.shape)})"


class ClippedPrediction(Prediction):
    """A prediction whose x0 was replaced; eps = (x - alpha x0) / sigma.

    Args:
        prediction: at a time that is a number.
        x0: the clean images, as they were clipped.
    """

    def __init__(self, prediction: Prediction, x0: Tensor) -> None:
        super().__init__(prediction.x, prediction.output, prediction.at, prediction.variance_logit)
        assert isinstance(prediction.at, TimePoint)
        self._point = prediction.at
        self.x0 = x0

    @cached_property
    def eps(self) -> Tensor:
        """The noise that is left of x beside x0."""
        return self.combine(x0=0, eps=1)

    @property
    def v(self) -> Tensor:
        """The velocity, alpha eps - sigma x0."""
        return self.combine(x0=-self._point.sigma, eps=self._point.alpha)

    def combine(self, *, x0: float, eps: float) -> Tensor:
        """x0 * (clipped x0) + eps * eps, as a sum of x0 and x; see `Prediction.combine`."""
        if eps == 0:
            return x0 * self.x0
        alpha, sigma = self._point.alpha, self._point.sigma
        return ((x0 - eps * alpha / sigma) * self.x0).add_(self.x, alpha=eps / sigma)


class ForeignPrediction(Prediction):
    """x0 and eps predicted by a third-party denoiser; its `output` is the F that they mean in the denoiser's target.

    Args:
        denoiser: the configuration of the one that predicted.
        x: noisy images, (B, C, H, W).
        t: their time.
        x0: the predicted clean images, same shape.
        eps: the predicted noise, same shape.
        variance_logit: as for `Prediction`.
    """

    def __init__(
        self, denoiser: DenoiserConfig, x: Tensor, t: TimePoint, x0: Tensor, eps: Tensor, variance_logit: Tensor | None = None
    ) -> None:
        x0, eps = x0.to(x.dtype), eps.to(x.dtype)
        output = denoiser.target.training_target(x0, eps, *denoiser.schedule.alpha_sigma(float(t)))
        super().__init__(x, output, t, variance_logit)
        self._point = t
        self.x0 = x0
        self.eps = eps

    @property
    def v(self) -> Tensor:
        """The velocity, alpha eps - sigma x0."""
        return self.combine(x0=-self._point.sigma, eps=self._point.alpha)

    def combine(self, *, x0: float, eps: float) -> Tensor:
        """x0 * (predicted x0) + eps * (predicted eps); see `Prediction.combine`."""
        return x0 * self.x0 if eps == 0 else (eps * self.eps if x0 == 0 else x0 * self.x0 + eps * self.eps)


def _sum(a: Tensor | float, x: Tensor, b: Tensor | float, output: Tensor) -> Tensor:
    """a x + b F in the dtype of x; F itself where the numbers are 0 and 1."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        a, b = (c.to(x.dtype) if isinstance(c, Tensor) else c for c in (a, b))
        return a * x + b * output.to(x.dtype)
    if a == 0:
        output = output.to(x.dtype)
        return output if b == 1 else b * output
    # In place, because at the size of an image making a tensor takes as long as adding to one.
    return (a * x).add_(output, alpha=b)
