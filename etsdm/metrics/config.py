"""`Evaluation`: the metrics of a recipe."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Self

from pydantic import Field, NonNegativeFloat, model_validator

from etsdm.checkpoints.format import Weights
from etsdm.errors import PartError
from etsdm.metrics.base import Metric
from etsdm.metrics.lipschitz import Lipschitz
from etsdm.metrics.loss import LossPerTime
from etsdm.registry import Frozen, field_error
from etsdm.registry.counts import Seed
from etsdm.schedules import Schedule

__all__ = ["Evaluation", "default_metrics"]


def default_metrics(held_out: bool) -> tuple[Metric, ...]:
    """The metrics of a recipe that names none: `lipschitz`, and `loss-per-t` where images are held out."""
    return (LossPerTime(), Lipschitz()) if held_out else (Lipschitz(),)


class Evaluation(Frozen):
    """The metrics of a recipe. A type may stand several times, with other fields or under another `name`.

    Attributes:
        metrics: the metrics; a recipe that names none has those of `default_metrics`.
        seed: of their own randomness, the same in every arm.
        weights: of the denoiser that is measured, `ema` for the moving average or `current` for the weights at the end of training;
            samples have those of their section.
        edges: edges of the sub-intervals of time that metrics of the denoiser resolve, in the schedule's unit, increasing; by default those
            that the arms of one schedule share (`etsdm.analysis.measured_edges`), so that all arms are measured at the same times.
    """

    metrics: tuple[Metric, ...] = Field((), max_length=100)
    seed: Seed = 0
    weights: Weights = "ema"
    edges: tuple[NonNegativeFloat, ...] | None = Field(None, min_length=2, max_length=100_001)

    @model_validator(mode="after")
    def _edges_increase(self) -> Self:
        for i, (left, right) in enumerate(pairwise(self.edges or ())):
            if left >= right:
                raise field_error("Evaluation", ("edges", i + 1), f"found {right:g} after {left:g}; give increasing edges")
        return self

    def check(self, schedule: Schedule) -> None:
        """Checks the edges against the times of a schedule. Raises: PartError for one outside them, or if all lie before the first."""
        # The horizon of a discrete schedule is one step after its last time, and sub-intervals of noise levels begin at 0, too.
        low, high, name = min(schedule.domain[0], 0.0), schedule.horizon, f"schedule {schedule.type_name!r}"
        for i, edge in enumerate(self.edges or ()):
            if not low <= edge <= high:
                raise PartError(("edges", i), f"{edge:g} is outside the times of {name}; give {low:g} to {high:g}")
        if self.edges and self.edges[-1] <= schedule.domain[0]:
            raise PartError("edges", f"all lie before the first time of {name}, {schedule.domain[0]:g}; give later ones")

    @property
    def names(self) -> list[str]:
        """Names of the results: `name`, else the type's, which a digest of the fields follows where the type stands several times."""
        types = Counter(metric.type_name for metric in self.metrics if metric.name is None)
        return [metric.file_stem if metric.name or types[metric.type_name] > 1 else metric.type_name for metric in self.metrics]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names, stems = self.names, [metric.file_stem for metric in self.metrics]
        for i, metric in enumerate(self.metrics):
            if names[i] in names[:i] or stems[i] in stems[:i]:
                found = f"metric {metric.type_name!r} stands twice with the same fields; remove one, or give it a name"
                message = f"{metric.name!r} names another metric as well; give each its own name" if metric.name else found
                raise field_error("Evaluation", ("metrics", i), message)
        return self
