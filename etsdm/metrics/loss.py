"""Training loss of held-out images as a function of time."""

from __future__ import annotations

from typing import ClassVar

import torch

from etsdm.losses import MSE, Loss
from etsdm.metrics.base import Curve, EvaluationInputs, Metric, MetricResult, mean_value
from etsdm.randomness import per_sample_normal
from etsdm.registry import metrics
from etsdm.registry.counts import BatchSize, Timesteps

__all__ = ["LossPerTime"]


@metrics.register("loss-per-t")
class LossPerTime(Metric):
    """Loss of held-out images at a grid of timesteps: every `fine`-th below 100, every `coarse`-th above."""

    uses_held_out: ClassVar[bool] = True

    loss: Loss = MSE()
    fine: Timesteps = 4
    coarse: Timesteps = 50
    batch_size: BatchSize = 256

    @torch.no_grad()
    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """The loss per time and its means below and above timestep 100; every image has one noise, the same for all t.

        Raises:
            DataError: no image is held out.
        """
        denoiser, test = inputs.denoiser, inputs.test
        end = int(denoiser.schedule.horizon)
        low = torch.arange(0, min(100, end), self.fine)
        times = torch.cat([low, torch.arange(100, max(end, 100), self.coarse)]).double()
        losses = torch.zeros(len(times), len(test), dtype=torch.float64)
        for rows, images in test.batches(self.batch_size):
            noise = per_sample_normal(inputs.seed, "metrics/loss", rows, denoiser.shape)
            (x0, cond), eps = denoiser.prepare_batch(images.pixels, images.labels), noise.to(denoiser.device)
            for k, t in enumerate(times.tolist()):
                t_all = torch.full((len(x0),), t, dtype=torch.float64, device=denoiser.device)
                losses[k, rows.start : rows.stop] = self.loss.per_image(denoiser, x0, t_all, eps, **cond).double().cpu()
        curve = Curve(
            t=tuple(times.tolist()),
            mean=tuple(losses.mean(1).tolist()),
            se=tuple((losses.std(1) / len(test) ** 0.5).tolist()) if len(test) > 1 else None,
            label="held-out loss",
            log_scale=True,
            description="Loss of held-out images at each timestep, one noise an image, the same for every arm.",
        )
        values = {
            "loss [0, 100)": mean_value(
                losses[: len(low)].mean(0), higher_is_better=False, description="mean held-out loss for t below 100"
            )
        }
        if len(times) > len(low):
            above = losses[len(low) :].mean(0)
            values[f"loss [100, {end})"] = mean_value(above, higher_is_better=False, description="mean held-out loss for t from 100 on")
        return MetricResult(values=values, curves={"loss": curve})
