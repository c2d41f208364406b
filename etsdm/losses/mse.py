"""Training losses."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from etsdm.denoiser import Predictor
from etsdm.losses.weightings import Constant, Weighting
from etsdm.registry import Part, losses
from etsdm.targets import Target

__all__ = ["MSE", "Loss"]


class Loss(Part, family=losses):
    """What training minimises."""

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


@losses.register("mse")
class MSE(Loss):
    """Squared error, averaged over the elements of an image (paper Eq. 4, and Eq. 9 with a condition map).

    `space` is where the error is measured; by default it is the space in which the network speaks.
    """

    space: Target | None = None
    weighting: Weighting = Constant()

    def per_image(self, denoiser: Predictor, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """weighting(t) times the mean of (prediction - truth)^2; see `Loss.per_image`."""
        alpha, sigma = (c.reshape(-1, *[1] * (x0.ndim - 1)) for c in denoiser.schedule.alpha_sigma(t))
        x = alpha.to(x0.dtype) * x0 + sigma.to(x0.dtype) * eps
        prediction = denoiser.predict(x, t, **cond)
        space = self.space or denoiser.target
        found = prediction.output if space == denoiser.target else space.value(prediction.x0, prediction.eps, alpha, sigma)
        # Under autocast F is in half precision; its square is not.
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        error = (found - space.value(x0, eps, alpha, sigma)).square().flatten(1).mean(1)
        return error * self.weighting(denoiser.schedule, t).to(error.dtype)
