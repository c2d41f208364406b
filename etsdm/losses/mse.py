"""Training losses, and the squared error.

An error of the network's output F is one of error_in(space) times as much in another space (see `etsdm.targets`), so the squared
error of any space is that of F times a number a time. F itself is never converted: x0 from eps near alpha = 0, and eps from x0
near sigma = 0, would lose the digits of single precision.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from etsdm.denoisers.config import Asked
from etsdm.denoisers.protocol import Predictor
from etsdm.losses.weightings import Constant, Weighting
from etsdm.registry import Part, losses
from etsdm.targets import Target

__all__ = ["MSE", "Loss", "Noisy"]


class Loss(Part, family=losses):
    """What training minimises.

    Attributes:
        learns_variance: whether the variance of sampling steps belongs to it.
        evaluations: how often it asks the network about an image.
    """

    learns_variance: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1

    def check(self, denoiser: Asked) -> None:
        """Raises PartError, on `loss`, if the loss is undefined for a denoiser's schedule and target."""

    @abstractmethod
    def per_image(self, denoiser: Predictor, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """The loss of each image.

        Args:
            denoiser: what is trained.
            x0: clean images, (B, C, H, W).
            t: times in the schedule's unit, (B,).
            eps: standard normal noise, same shape as x0.
            **cond: what the network takes besides.

        Returns:
            (B,), float32, or float64 where x0 is.
        """


class Noisy(NamedTuple):
    """Images made noisy. Fields: x, (B, C, H, W); t, the time whose noise they have, (B,); alpha and sigma there, (B, 1, 1, 1)."""

    x: Tensor
    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, denoiser: Predictor, x0: Tensor, t: Tensor, eps: Tensor) -> Noisy:
        """x = alpha x0 + sigma eps at the denoiser's `noising_time(t)`; arguments as in `Loss.per_image`."""
        t = denoiser.noising_time(t)
        alpha, sigma = (c.reshape(-1, *[1] * (x0.ndim - 1)) for c in denoiser.schedule.alpha_sigma(t))
        return cls(alpha.to(x0.dtype) * x0 + sigma.to(x0.dtype) * eps, t, alpha, sigma)


@losses.register("mse")
class MSE(Loss):
    """Squared error, averaged over the elements of an image (paper Eq. 4, and Eq. 9 with a condition map).

    `space` is where the error is measured; by default it is the space in which the network speaks. `edm` with weight 1 is the
    loss of Karras et al. 2022, (sigma^2 + sd^2) / (sigma sd)^2 times the squared error of x0.
    """

    space: Target | None = None
    weighting: Weighting = Constant()

    def per_image(self, denoiser: Predictor, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """weighting(t) times the mean of (prediction - truth)^2; see `Loss.per_image`."""
        noisy = Noisy.of(denoiser, x0, t, eps)
        return self.of_output(denoiser, denoiser.output(noisy.x, noisy.t, **cond), noisy, x0, eps)

    def of_output(self, denoiser: Predictor, output: Tensor, noisy: Noisy, x0: Tensor, eps: Tensor) -> Tensor:
        """The loss of each image for an output F of the network, (B, C, H, W), at `noisy`; see `Loss.per_image`."""
        _, t, alpha, sigma = noisy
        target, space = denoiser.target, self.space or denoiser.target
        # Under autocast F is in half precision; its square is not.
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        error = (output - target.training_target(x0, eps, alpha, sigma)).square().flatten(1).mean(1)
        weight = self.weighting(denoiser.schedule, t, space) * target.error_factor(space, alpha, sigma).flatten().square()
        return error * weight.to(error.dtype)
