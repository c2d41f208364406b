"""Loss per time: the squared error of the output in the space of its target, at each of several times."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.lipschitz import Batches, batches_of
from etsdm.analysis.running_moments import Moments
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.losses import MSE, Loss
from etsdm.randomness import per_sample_normal

__all__ = ["LossCurve", "loss_curve"]


class LossCurve(NamedTuple):
    """Loss at several times, float64 on the CPU. Fields: t, in the schedule's unit, mean and its standard error, (M,); images."""

    t: Tensor
    mean: Tensor
    se: Tensor
    images: int

    def over(self, low: float, high: float) -> float | None:
        """The mean over times in [low, high), None where there is none."""
        inside = (self.t >= low) & (self.t < high)
        return self.mean[inside].mean().item() if inside.any() else None


@torch.no_grad()
def loss_curve(
    denoiser: DenoiserLike,
    images: Batches,
    t: Tensor,
    *,
    loss: Loss | None = None,
    seed: int = 0,
    batch_size: int = 128,
    y: Tensor | None = None,
) -> LossCurve:
    """Measures the loss per time; each image has one noise, the same for all t.

    Args:
        denoiser: trained, in eval mode, or exact.
        images: clean images, as for `lipschitz_curve`.
        t: times in the schedule's unit, (M,).
        loss: the mean squared error of the denoiser's own target by default.
        seed: seed of the noise.
        batch_size: images in a forward pass.
        y: class labels, (N,), for a class-conditional denoiser, where `images` is one tensor.

    Raises:
        PartError: there are no images, or a time is outside the schedule's domain.
    """
    chosen, moments = MSE() if loss is None else loss, Moments(len(t))
    for x0, cond in batches_of(images, y, batch_size):
        eps = per_sample_normal(seed, "diagnosis/noise", range(moments.n, moments.n + len(x0)), x0.shape[1:])
        batch = NoisyBatch.on(denoiser.device, x0, eps, cond)
        losses = torch.zeros(len(t), len(x0), dtype=torch.float64)
        for k, time in enumerate(t.to(denoiser.device, torch.float64)):
            losses[k] = chosen.per_image(denoiser, batch.x0, time.repeat(len(x0)), batch.eps, **batch.cond).double().cpu()
        moments.add(losses)
    if not moments.n:
        raise PartError("images", "none are given; give one or more")
    return LossCurve(t.double().cpu(), moments.mean, moments.se, moments.n)
