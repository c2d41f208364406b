"""Lipschitz curve of a denoiser in time."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.analysis import lipschitz_curve, range_name, steps_of_curve, timesteps
from etsdm.errors import PartError
from etsdm.metrics.base import Curve, EvaluationInputs, EvaluationPlan, Metric, MetricResult, Value, mean_value
from etsdm.registry import metrics
from etsdm.registry.counts import BatchSize, ImageCount, Index, Timesteps
from etsdm.schedules import Schedule

__all__ = ["Lipschitz"]


@metrics.register("lipschitz")
class Lipschitz(Metric):
    """K(t, t'), the change of the output from one timestep to the next when only the condition changes (paper Eq. 8).

    Of a continuous schedule, timestep i is t = (i + 1) / 1000 of the horizon; where t is a noise level, the timesteps have equal distances
    in log sigma (see `etsdm.analysis.timesteps`).

    Attributes:
        images: number of noised training images.
        start: first timestep.
        stop: the timestep after the last one; by default twice as far as the shared sub-intervals reach.
        batch_size: images in one pass of the network.
    """

    images: ImageCount = 128
    start: Index = 0
    stop: Timesteps | None = None
    batch_size: BatchSize = 128

    def check(self, plan: EvaluationPlan) -> None:
        """Raises PartError if there is no timestep from `start` to `stop`, or `stop` is beyond the last one."""
        self._steps(plan.spec.schedule, plan.edges)

    def _steps(self, schedule: Schedule, edges: tuple[float, ...] | None) -> range:
        """The timesteps that are measured; without edges up to `stop`, or to the last one."""
        name, total = f"schedule {schedule.type_name!r}", len(timesteps(schedule))
        if not total:
            raise PartError("type", f"{name} has one timestep, and K needs two; give it more, or leave 'lipschitz' out")
        if self.stop is not None and self.stop > total:
            raise PartError("stop", f"{self.stop} is beyond the {total} timesteps of {name} that have a next one; give 1 to {total}")
        default = total if edges is None else steps_of_curve(schedule, edges)
        stop = default if self.stop is None else self.stop
        if self.start >= stop:
            known = self.stop is not None or edges is None or self.start >= total
            reason = "" if known else ", twice as far as the sub-intervals of time reach"
            mend = f"0 to {stop - 1}" if known else f"0 to {stop - 1}, or stop, {self.start + 1} to {total}"
            raise PartError("start", f"{self.start} does not lie before the last timestep, {min(stop, total)}{reason}; give {mend}")
        return range(self.start, stop)

    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """The curve on noised training images, and the means over the first sub-interval, the others, all of them, and beyond.

        Raises:
            PartError: as `check`.
        """
        schedule, edges = inputs.denoiser.schedule, inputs.time_edges
        chosen = inputs.train.batch(range(min(self.images, len(inputs.train))))
        curve = lipschitz_curve(
            inputs.denoiser,
            (inputs.denoiser.prepare_batch(images.pixels, images.labels) for _, images in chosen.batches(self.batch_size)),
            timesteps(schedule, self._steps(schedule, edges)),
            seed=inputs.seed,
            batch_size=self.batch_size,
            keep_values=True,
        ).per_step()
        assert curve.values is not None  # keep_values
        drawn = Curve(
            t=tuple(curve.t.tolist()),
            mean=tuple(curve.mean.tolist()),
            se=tuple(curve.se.tolist()) if curve.images > 1 else None,
            t_label=schedule.t_label,
            label="K(t, t+1)" if schedule.is_discrete else "K(t, t'), per step",
            log_scale=True,
            log_time=schedule.time_is_noise_level,
            description="Change of the network's output over one step of time at the same noised image (paper Eq. 8).",
        )
        return MetricResult(values=_means(schedule, curve.t, curve.values, edges), curves={"lipschitz": drawn})


def _means(schedule: Schedule, times: Tensor, values: Tensor, edges: tuple[float, ...]) -> dict[str, Value]:
    """Means of each image over the ranges of time that were measured whole."""
    all_times = torch.tensor(timesteps(schedule), dtype=torch.float64)
    slack = 1e-9 * schedule.horizon
    ranges = dict.fromkeys([(edges[0], edges[1]), (edges[1], edges[-1]), (edges[0], edges[-1]), (edges[-1], float(times[-1]) + 2 * slack)])
    means = {}
    for low, high in ranges:
        measured, whole = ((t >= low - slack) & (t < high - slack) for t in (times, all_times))
        if measured.any() and measured.sum() == whole.sum():
            end = high if high in edges else _end(schedule, times, all_times)
            name = range_name(schedule, low, end)
            description = f"mean of K per step over {int(measured.sum())} values of {'t in ' if schedule.is_discrete else ''}{name}"
            means[f"K {name}"] = mean_value(values[measured].mean(0), description=description)
    return means


def _end(schedule: Schedule, times: Tensor, all_times: Tensor) -> float:
    """The first timestep after those that were measured."""
    after = all_times[all_times > times[-1]]
    return float(after[0]) if len(after) else schedule.domain[1]
