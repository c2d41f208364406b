"""What a denoiser says of noisy images, and the protocol of everything that says it.

The output F of a network is one of four things that follow from each other at a known x = alpha x0 + sigma eps:

    x0 = c_skip x + c_out F,   eps = e_skip x + e_out F,   v = alpha eps - sigma x0,   score = -eps / sigma

(see `etsdm.targets`). At a time that is a number the coefficients are numbers, and each of these is one sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from etsdm.denoisers.config import Asked
from etsdm.targets import Coefficients

__all__ = ["Moment", "Prediction", "levels", "moment_at", "predicted"]


class Moment(NamedTuple):
    """One time in numbers: the target's coefficients, alpha and sigma."""

    c_in: float
    c_skip: float
    c_out: float
    e_skip: float
    e_out: float
    alpha: float
    sigma: float


class Prediction:
    """What a denoiser says about x at time t, in every space.

    Args:
        x: noisy images, (B, C, H, W).
        output: the network's output F, same shape.
        coefficients: the target's coefficients at t, each a number, or () or (B, 1, 1, 1).
        alpha: signal coefficient at t, as the coefficients.
        sigma: noise standard deviation at t, likewise.
        variance_logit: the network's second half, where it learns the variance of sampling steps; same shape as x.
    """

    def __init__(
        self,
        x: Tensor,
        output: Tensor,
        coefficients: Coefficients | Moment,
        alpha: Tensor | float,
        sigma: Tensor | float,
        variance_logit: Tensor | None = None,
    ) -> None:
        self.x = x
        self.output = output
        self.variance_logit = variance_logit
        self.coefficients = coefficients
        self.alpha = alpha
        self.sigma = sigma

    @cached_property
    def x0(self) -> Tensor:
        """The clean images, E[x0 | x]."""
        c = self.coefficients
        return _sum(c.c_skip, self.x, c.c_out, self.output)

    @cached_property
    def eps(self) -> Tensor:
        """The noise, E[eps | x]."""
        c = self.coefficients
        return _sum(c.e_skip, self.x, c.e_out, self.output)

    @property
    def v(self) -> Tensor:
        """The velocity, alpha eps - sigma x0."""
        # Put together in float64, so that v of a v-network is F itself.
        c, alpha, sigma = self.coefficients, self.alpha, self.sigma
        skip, out = alpha * c.e_skip - sigma * c.c_skip, alpha * c.e_out - sigma * c.c_out
        return _sum(skip, self.x, out, self.output)

    @property
    def score(self) -> Tensor:
        """The score of the noisy density, -eps / sigma; not a number at sigma = 0."""
        return -self.eps / (self.sigma.to(self.x.dtype) if isinstance(self.sigma, Tensor) else self.sigma)

    def x0_cut(self, cut: Callable[[Tensor], Tensor]) -> Tensor:
        """x0 after a function that takes values to a range; what is known for certain is left as it is."""
        return cut(self.x0)

    def mixed(self, a: float, b: float) -> Tensor:
        """a x0 + b eps as one sum of x and F, in a new tensor; what has the coefficient 0 is left out, were it infinite."""
        c = self.coefficients
        if b == 0:
            skip, out = a * c.c_skip, a * c.c_out
        elif a == 0:
            skip, out = b * c.e_skip, b * c.e_out
        else:
            skip, out = a * c.c_skip + b * c.e_skip, a * c.c_out + b * c.e_out
        mixed = _sum(skip, self.x, out, self.output)
        return mixed.clone() if mixed is self.output else mixed


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


def levels(denoiser: Asked, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """alpha and sigma at times t, float64, () or (B, 1, ...) like x."""
    alpha, sigma = denoiser.schedule.alpha_sigma(t.to(x.device) if isinstance(t, Tensor) else t)
    shape = (-1, *[1] * (x.ndim - 1)) if alpha.ndim else ()
    return alpha.reshape(shape), sigma.reshape(shape)


def moment_at(denoiser: Asked, t: float) -> Moment:
    """What there is to know of a time that is a number."""
    alpha, sigma = denoiser.schedule.alpha_sigma(t)
    return Moment(*(value.item() for value in (*denoiser.target.coefficients(alpha, sigma), alpha, sigma)))


def predicted(denoiser: Asked, x: Tensor, t: Tensor | float, output: Tensor, variance_logit: Tensor | None = None) -> Prediction:
    """What an output in the denoiser's target says of x at t; arguments as those of `Prediction` and `Predictor.output`."""
    if isinstance(t, Tensor):
        alpha, sigma = levels(denoiser, x, t)
        return Prediction(x, output, denoiser.target.coefficients(alpha, sigma), alpha, sigma, variance_logit)
    moment = moment_at(denoiser, t)
    return Prediction(x, output, moment, moment.alpha, moment.sigma, variance_logit)
