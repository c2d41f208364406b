"""Training loss of held-out images as a function of time."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from etsdm.analysis import measured_times, range_name
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import PartError
from etsdm.losses import MSE, Loss
from etsdm.metrics.base import Curve, EvaluationInputs, EvaluationPlan, Metric, MetricResult, Value, mean_value
from etsdm.randomness import per_sample_normal
from etsdm.registry import metrics
from etsdm.registry.counts import BatchSize, Timesteps
from etsdm.schedules import Schedule

__all__ = ["LossPerTime"]


@metrics.register("loss-per-t")
class LossPerTime(Metric):
    """Loss of held-out images over time, in each shared sub-interval and beyond them.

    By default it is that of the denoiser's own target, and arms of different targets are not compared. `loss: {type: mse, space: eps}`
    measures all of them as predictions of the noise, which are compared where the arms share the schedule.

    Attributes:
        loss: the loss.
        fine: times in each sub-interval (see `etsdm.analysis.measured_times`).
        coarse: times beyond the last of them.
        batch_size: images in one pass of the network.
    """

    uses_held_out: ClassVar[bool] = True

    loss: Loss = MSE()
    fine: Timesteps = 5
    coarse: Timesteps = 18
    batch_size: BatchSize = 256

    def denoiser_protocol(self, spec: DenoiserSpec) -> dict[str, object]:
        """As that of any metric; the target is the one in whose space the loss is measured."""
        of_parts = super().denoiser_protocol(spec)
        space = self.loss.space if isinstance(self.loss, MSE) else None
        return of_parts if space is None else {**of_parts, "target": space.model_dump(mode="json")}

    def check(self, plan: EvaluationPlan) -> None:
        """Raises PartError if the loss is undefined for the denoiser, or infinite at a time that is measured."""
        self.loss.check(plan.spec)
        if self.loss.learns_variance and not plan.spec.learns_variance:
            raise PartError("loss", f"{self.loss.type_name!r} measures a variance, which the model does not learn; give mse")

    @torch.no_grad()
    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """The loss per time and its means below and above the last edge; every image has one noise, the same for all t.

        Raises:
            DataError: no image is held out.
        """
        denoiser, test, edges = inputs.denoiser, inputs.test, inputs.time_edges
        times = measured_times(denoiser.schedule, edges, self.fine, self.coarse)
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
            t_label=denoiser.schedule.t_label,
            label="held-out loss",
            log_scale=True,
            log_time=denoiser.schedule.time_is_noise_level,
            description=f"Loss of held-out images at each {denoiser.schedule.t_label}, one noise an image, the same for every arm.",
        )
        return MetricResult(values=_means(denoiser.schedule, times, losses, edges), curves={"loss": curve})


def _means(schedule: Schedule, times: Tensor, losses: Tensor, edges: tuple[float, ...]) -> dict[str, Value]:
    """Mean losses of each image before and after the last edge."""
    values = {}
    for low, high in ((edges[0], edges[-1]), (edges[-1], schedule.horizon)):
        inside = (times >= low) & (times < high)
        if inside.any():
            name = range_name(schedule, low, high)
            description = f"mean held-out loss over {int(inside.sum())} values of {'t in ' if schedule.is_discrete else ''}{name}"
            values[f"loss {name}"] = mean_value(losses[inside].mean(0), higher_is_better=False, description=description)
    return values
