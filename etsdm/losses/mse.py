"""Training losses, and the squared error.

An error of the network's output F is error_factor(space) times as large in another space (see `etsdm.targets`), so the squared error
of any space is that of F times a number per time. F itself is never converted: x0 from eps near alpha = 0, and eps from x0 near
sigma = 0, would lose the digits of single precision.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.time_point import alpha_sigma_like
from etsdm.errors import PartError
from etsdm.losses.weightings import Constant, Weighting
from etsdm.registry import Part, losses
from etsdm.targets import Target

__all__ = ["MSE", "Loss", "NoiseLevel"]


class Loss(Part, family=losses):
    """A training loss.

    Attributes:
        learns_variance: whether the loss trains the variance of sampling steps.
        evaluations: network calls per image.
    """

    learns_variance: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1

    def check(self, denoiser: DenoiserConfig) -> None:
        """Raises PartError, on `loss` or a field of it, if the loss is undefined for a denoiser's schedule and target."""

    @abstractmethod
    def per_image(self, denoiser: DenoiserLike, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """Computes the loss of each image.

        Args:
            denoiser: the denoiser to train.
            x0: clean images, (B, C, H, W).
            t: times in the schedule's unit, (B,).
            eps: standard normal noise, same shape as x0.
            **cond: further inputs of the network, for example labels `y` of shape (B,).

        Returns:
            (B,), float32, or float64 where x0 is.
        """


class NoiseLevel(NamedTuple):
    """Noise level of each training image. Fields: t, the noising time, (B,); alpha and sigma there, float64, (B, 1, ...) like x0."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, denoiser: DenoiserLike, t: Tensor, x0: Tensor) -> Self:
        """The noise level of images x0 with drawn times t, at the denoiser's `noising_time(t)`."""
        t = denoiser.noising_time(t)
        return cls(t, *alpha_sigma_like(x0, denoiser, t))


@losses.register("mse")
class MSE(Loss):
    """Squared error, averaged over the elements of an image (paper Eq. 4, and Eq. 9 with a condition map).

    Attributes:
        space: target in whose space the error is measured; the denoiser's own target by default. `edm` with weight 1 is the loss of
            Karras et al. 2022, (sigma^2 + sd^2) / (sigma sd)^2 times the squared error of x0.
        weighting: weight of the squared error by noise level.
    """

    space: Target | None = None
    weighting: Weighting = Constant()

    def check(self, denoiser: DenoiserConfig) -> None:
        """Raises PartError where the weight of the error of F is infinite at the first or last timestep of a discrete schedule.

        Between them, and at almost every time of a continuous one, it is finite.
        """
        self.check_weights(denoiser, ("loss",))

    def check_weights(self, denoiser: DenoiserConfig, path: tuple[str, ...]) -> None:
        """As `check`. Args: path: where this squared error stands, for the error."""
        schedule, target = denoiser.schedule, denoiser.target
        if not schedule.is_discrete:
            return
        times = denoiser.condition_map.noising_time(torch.tensor(schedule.domain, dtype=torch.float64), schedule)
        weights = self._weights(target, *schedule.alpha_sigma(times))
        for t, weight in zip(times.tolist(), weights.tolist(), strict=True):
            if not math.isfinite(weight):
                of = f"an error of {target.type_name!r} has no finite weight"
                where = f"at t = {t:g} of schedule {schedule.type_name!r}"
                field, mend = "weighting", "give another weighting"
                if self.space is not None:
                    field, mend = "space", "leave it out, or give another space"
                    of += f" in the space of {self.space.type_name!r}"
                raise PartError((*path, field), f"{of} {where}; {mend}")

    def _weights(self, target: Target, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Weight of the squared error of F at each noise level, (B,), float64."""
        space = self.space or target
        return self.weighting(alpha, sigma, space) * target.error_factor(space, alpha, sigma).square()

    def per_image(self, denoiser: DenoiserLike, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """Weighted mean of (prediction - truth)^2; see `Loss.per_image`."""
        batch, level = NoisyBatch(x0, eps, cond), NoiseLevel.of(denoiser, t, x0)
        output = denoiser.output(batch.at(level.alpha, level.sigma), level.t, **cond)
        return self.of_output(denoiser, output, batch, level)

    def of_output(self, denoiser: DenoiserLike, output: Tensor, batch: NoisyBatch, level: NoiseLevel) -> Tensor:
        """Loss of each image for a network output F, (B, C, H, W), at a noise level of the batch; see `Loss.per_image`."""
        target = denoiser.target
        # Under autocast F is in half precision; its square is not.
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        truth = target.training_target(batch.x0, batch.eps, level.alpha, level.sigma)
        error = (output - truth).square().flatten(1).mean(1)
        weight = self._weights(target, level.alpha.flatten(), level.sigma.flatten())
        return error * weight.to(error.dtype)
