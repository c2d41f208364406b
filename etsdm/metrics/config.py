"""`Evaluation`: the metrics of a recipe."""

from __future__ import annotations

from collections import Counter
from typing import Self

from pydantic import Field, model_validator

from etsdm.metrics.base import Metric
from etsdm.registry import Frozen, field_error
from etsdm.registry.counts import Seed

__all__ = ["Evaluation"]


class Evaluation(Frozen):
    """The metrics of a recipe. Fields: metrics; seed of their own randomness, the same in every arm.

    A type may stand several times, with other fields or under another `name`.
    """

    metrics: tuple[Metric, ...] = Field((), max_length=100)
    seed: Seed = 0

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
