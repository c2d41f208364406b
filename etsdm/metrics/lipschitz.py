"""Lipschitz curve of a denoiser in time."""

from __future__ import annotations

import torch

from etsdm.analysis import lipschitz_curve, timesteps
from etsdm.metrics.base import Curve, EvaluationInputs, Metric, MetricResult, mean_value
from etsdm.registry import metrics
from etsdm.registry.counts import BatchSize, ImageCount, Index, Timesteps

__all__ = ["Lipschitz"]


@metrics.register("lipschitz")
class Lipschitz(Metric):
    """K(t, t+1), the change of the output when only the condition changes, at timesteps `start` to `stop` - 1 (paper Eq. 8).

    Of a continuous schedule, timestep i is t = (i + 1) / 1000 of the horizon.
    """

    images: ImageCount = 128
    start: Index = 0
    stop: Timesteps = 200
    batch_size: BatchSize = 128

    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """The curve on noised training images, and the mean over the timesteps below and above 100."""
        chosen = inputs.train.batch(range(min(self.images, len(inputs.train))))
        steps = torch.arange(self.start, self.stop)
        curve = lipschitz_curve(
            inputs.denoiser,
            (inputs.denoiser.prepare_batch(images.pixels, images.labels) for _, images in chosen.batches(self.batch_size)),
            timesteps(inputs.denoiser.schedule, steps.tolist()),
            seed=inputs.seed,
            batch_size=self.batch_size,
            keep_values=True,
        ).per_step()
        assert curve.values is not None  # keep_values
        values = {}
        for low, high in ((0, 10), (10, 50), (50, 100), (0, 100), (100, self.stop)):
            inside = (steps >= low) & (steps < high)
            if inside.any() and low >= self.start and high <= self.stop:
                description = f"mean of K(t, t+1) over t in [{low}, {high})"
                values[f"K [{low}, {high})"] = mean_value(curve.values[inside].mean(0), description=description)
        unit = {} if inputs.denoiser.schedule.is_discrete else {"t_label": "time t"}
        curve_of_k = Curve(
            t=tuple(curve.t.tolist()),
            mean=tuple(curve.mean.tolist()),
            se=tuple(curve.se.tolist()) if curve.images > 1 else None,
            label="K(t, t+1)",
            log_scale=True,
            description="Change of the network's output from t to t+1 at the same noised image (paper Eq. 8), per step.",
            **unit,
        )
        return MetricResult(values=values, curves={"lipschitz": curve_of_k})
