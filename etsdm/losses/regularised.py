"""Training that penalises how fast the network changes with its condition, the paper's alternative DDPM-r (appendix D.3.1).

    L = MSE + weight mean ((F(x_t, t) - F(x_t, t')) / h)^2,    t' = t - dt,  h = dt in steps

Both outputs are for the same x_t; only the condition differs, as in the estimator of paper Eq. 8. A step is one timestep of a
discrete schedule, and a thousandth of the horizon of a continuous one, so that a weight means the same on both.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike
from etsdm.losses.mse import MSE, Loss, Noisy
from etsdm.registry import losses

__all__ = ["LipschitzRegularized"]


@losses.register("lipschitz-regularized")
class LipschitzRegularized(Loss):
    """Squared error plus the squared slope of F in its condition, the paper's DDPM-r (appendix D.3.1).

    The paper gives neither weight, norm nor distance. Our choices: the squared mean over the elements of an image, in the
    network's own space; t' one step earlier; gradients through both outputs; no term where t' is before the schedule's start.
    The weight has no default: try 0.01, 0.1 and 1. It costs a second forward pass, a call of its own with the same shapes, so
    that equal conditions give equal outputs and a term of exactly 0. Dropout differs between the two passes and would be
    penalised too: train without.

    `dt` is t - t' in the schedule's unit; by default one step.
    """

    evaluations: ClassVar[int] = 2

    weight: PositiveFloat
    dt: PositiveFloat | None = None
    mse: MSE = MSE()

    def per_image(self, denoiser: DenoiserLike, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """MSE plus weight times the squared difference quotient in steps; see `Loss.per_image`."""
        noisy = Noisy.of(denoiser, x0, t, eps)
        step = denoiser.schedule.step
        dt = step if self.dt is None else self.dt
        earlier = t.to(torch.float64) - dt
        exists = earlier >= denoiser.schedule.domain[0]
        here = denoiser.output(noisy.x, noisy.t, **cond)
        there = denoiser.output(noisy.x, noisy.t, told=torch.where(exists, earlier, noisy.t), **cond)
        precision = torch.promote_types(here.dtype, torch.float32)
        slope = (here.to(precision) - there.to(precision)) / (dt / step)
        penalty = slope.square().flatten(1).mean(1) * exists
        return self.mse.of_output(denoiser, here, noisy, x0, eps) + self.weight * penalty
