"""`Evaluation`: what is measured."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from etsdm.metrics.base import Metric
from etsdm.registry import Frozen, field_error

__all__ = ["Evaluation"]


class Evaluation(Frozen):
    """What is measured. Fields: metrics; seed, of their own randomness, the same in every arm."""

    metrics: tuple[Metric, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _each_metric_once(self) -> Self:
        names = [metric.type_name for metric in self.metrics]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise field_error("Evaluation", ("metrics", i), f"metric {name!r} stands twice; remove one")
        return self
