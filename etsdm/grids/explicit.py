"""`explicit`: times given one by one."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from etsdm.errors import PartError
from etsdm.grids.base import Grid, refuse_outside
from etsdm.registry import field_error, grids
from etsdm.schedules import Schedule

__all__ = ["Explicit"]


@grids.register("explicit")
class Explicit(Grid):
    """Times given one by one; steps must be as many. A last time without noise is the end, and no step starts there."""

    at: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _decreasing(self) -> Self:
        for k, (earlier, later) in enumerate(zip(self.at, self.at[1:], strict=False), start=1):
            if not later < earlier:
                raise field_error("Explicit", ("at", k), f"{later:g} does not lie before {earlier:g}; give decreasing times")
        return self

    def times(self, schedule: Schedule, n: int, *, start: float | None = None, end: float | None = None) -> Tensor:
        """The times as given, from `start` on and before `end`; see `Grid.times`."""
        low, high = schedule.domain
        if self.at[0] > high or self.at[-1] < low:
            found = self.at[0] if self.at[0] > high else self.at[-1]
            raise PartError("at", f"{found:g} is outside the times of schedule {schedule.type_name!r}; give {low:g} to {high:g}")
        refuse_outside(schedule, t_end=end)
        chosen = [t for t in self.at if (start is None or t <= start) and (end is None or t > end)]
        if not chosen:
            raise PartError("at", "none of the times of grid 'explicit' lies between start and t_end; give some that do")
        if len(chosen) != n:
            raise PartError("steps", f"{n} steps do not fit the {len(chosen)} times of grid 'explicit'; give {len(chosen)}")
        return torch.tensor([*chosen, *([] if end is None else [end])], dtype=torch.float64)
