"""Cost of a diagnosis: rows that pass through the network, counted before and while it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.wrappers import DenoiserWrapper
from etsdm.schedules import Schedule

__all__ = ["CountedRows", "rows_of_chain", "rows_of_curves"]


class CountedRows(DenoiserWrapper):
    """A denoiser whose calls are counted.

    Args:
        denoiser: trained, exact, or a wrapper itself.
        on_rows: called with the number of rows of each call.
    """

    def __init__(self, denoiser: DenoiserLike, on_rows: Callable[[int], Any]) -> None:
        super().__init__(denoiser)
        self._on_rows = on_rows

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), counted; see `Denoiser.output`."""
        self._on_rows(len(x))
        return super().output(x, t, condition_t=condition_t, **cond)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t), counted; see `Denoiser.predict`."""
        self._on_rows(len(x))
        return super().predict(x, t, **cond)


def rows_of_curves(denoiser: DenoiserLike, t: Tensor, neighbour: Tensor) -> int:
    """Rows for each image of both K curves and of the loss curve: two where conditions differ, one a distinct time, and one a time."""
    differing = denoiser.condition(t) != denoiser.condition(neighbour)
    return 2 * int(differing.sum()) + len(torch.cat([t, neighbour]).unique()) + len(t)


def rows_of_chain(schedule: Schedule, t: float) -> int:
    """Rows for each image of one chain from t (see `etsdm.analysis.stability`)."""
    return int(t + 1) if schedule.is_discrete else max(1, round(t / schedule.step))
