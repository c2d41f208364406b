"""`uniform-in-f`: a grid uniform in the condition f(t) (paper, appendix D.3.3)."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.grids.base import RealGrid
from etsdm.registry import field_error, grids
from etsdm.schedules import Schedule

__all__ = ["UniformInF"]


@grids.register("uniform-in-f")
class UniformInF(RealGrid):
    """Uniform in the condition f(t) of a map, from the schedule's last time on (paper, appendix D.3.3).

    Times are real also on a discrete schedule. The grid ends at the schedule's first time, or where the map is clipped; a first time
    without noise is the end of the last step instead.

    Attributes:
        map: the map f: `identity`, or a remap such as `inverse` or `log-snr`.
    """

    map: ConditionMap

    @model_validator(mode="after")
    def _map_has_an_inverse(self) -> Self:
        if not self.map.is_invertible:
            message = f"{self.map.type_name!r} shares conditions between times and has no inverse; give a remap"
            raise field_error("UniformInF", ("map",), message)
        return self

    def _between(self, schedule: Schedule, start: float, end: float | None, n: int) -> Tensor:
        first, last = self.map.ends(schedule)
        if start != schedule.domain[1]:
            last = self._f(schedule, start)
        if end is not None:
            first, gaps = self._f(schedule, end), n
        else:
            ends_clean = schedule.sigma(self.map.inverse(torch.tensor(first, dtype=torch.float64), schedule)) == 0
            gaps = n if ends_clean else max(n - 1, 1)
        points = n if end is None else n + 1
        f = last + (first - last) * torch.arange(points, dtype=torch.float64) / gaps
        return self.map.inverse(f, schedule).clamp(*schedule.domain)

    def _f(self, schedule: Schedule, t: float) -> float:
        return float(self.map(torch.tensor(t, dtype=torch.float64), schedule))
