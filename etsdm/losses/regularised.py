"""Squared error with a penalty on the network's slope in its condition, the paper's alternative DDPM-r (appendix D.3.1).

    L = MSE + weight mean ((F(x_t, t) - F(x_t, t')) / h)^2,    t' = t - dt,  h = dt in steps

Both outputs are for the same x_t; only the condition differs, as in the estimator of paper Eq. 8. A step is one timestep of a
discrete schedule, and a thousandth of the horizon of a continuous one, so that a weight means the same on both.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.losses.mse import MSE, Loss, NoiseLevel
from etsdm.registry import losses

__all__ = ["LipschitzRegularized"]


@losses.register("lipschitz-regularized")
class LipschitzRegularized(Loss):
    """Squared error plus the squared slope of F in its condition, the paper's DDPM-r (appendix D.3.1).

    The paper gives neither weight, norm nor distance. Our choices: the mean square over the elements of an image, in the space of the
    denoiser's target; t' one step earlier; gradients through both outputs; no penalty where t' is before the schedule's first time.
    It costs a second forward pass, a separate call with the same shapes, so that equal conditions give equal outputs and a penalty of
    exactly 0. Train without dropout, which differs between the two passes and would be penalised.

    Attributes:
        weight: of the penalty; no default, try 0.01, 0.1 and 1.
        dt: t - t' in the schedule's unit; one step by default.
        mse: the squared error, with its space and weighting.
    """

    evaluations: ClassVar[int] = 2

    weight: PositiveFloat
    dt: PositiveFloat | None = None
    mse: MSE = MSE()

    def check(self, denoiser: DenoiserConfig) -> None:
        """Raises PartError if no time has one at a distance of dt before it, or as that of the squared error."""
        low, high = denoiser.schedule.domain
        if self.dt is not None and self.dt > high - low:
            name = f"schedule {denoiser.schedule.type_name!r}"
            raise PartError("loss.dt", f"{self.dt:g} is longer than {name}, so that nothing is penalised; give {high - low:g} or less")
        self.mse.check_weights(denoiser, ("loss", "mse"))

    def per_image(self, denoiser: DenoiserLike, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """MSE plus weight times the squared difference quotient in steps; see `Loss.per_image`."""
        batch, level = NoisyBatch(x0, eps, cond), NoiseLevel.of(denoiser, t, x0)
        x = batch.at(level.alpha, level.sigma)
        step = denoiser.schedule.step
        dt = step if self.dt is None else self.dt
        earlier = t.to(torch.float64) - dt
        exists = earlier >= denoiser.schedule.domain[0]
        here = denoiser.output(x, level.t, **cond)
        there = denoiser.output(x, level.t, condition_t=torch.where(exists, earlier, level.t), **cond)
        precision = torch.promote_types(here.dtype, torch.float32)
        slope = (here.to(precision) - there.to(precision)) / (dt / step)
        penalty = slope.square().flatten(1).mean(1) * exists
        return self.mse.of_output(denoiser, here, batch, level) + self.weight * penalty
