"""Maps that share one condition in each of several sub-intervals of time; E-TSDM is the uniform one.

Given edges e_0 < e_1 < ... < e_n, every t in [e_i, e_{i+1}) gets the condition of sub-interval i, here its left edge; times
outside [e_0, e_n) keep their own. With e_i = i t_tilde / n this is f_T of the paper (section 4).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.registry import Problem, condition_maps

__all__ = ["EDGE_ULPS", "ETSDM", "Intervals"]

# A time that should be an edge may arrive a few roundings below it and belongs to the sub-interval that starts there. The
# slack is this many units in the last place of the time's dtype, at the last edge.
EDGE_ULPS = 4


class Intervals(ConditionMap):
    """One condition in each sub-interval [edges[i], edges[i+1]); the identity elsewhere."""

    @property
    @abstractmethod
    def edges(self) -> tuple[float, ...]:
        """Edges of the sub-intervals in the schedule's unit, increasing, n + 1 of them."""

    def __call__(self, t: Tensor) -> Tensor:
        """Returns the left edge of t's sub-interval, or t itself outside all of them."""
        if not t.is_floating_point():
            t = t.to(torch.float64)
        edges = torch.tensor(self.edges, dtype=torch.float64, device=t.device)
        slack = EDGE_ULPS * torch.finfo(t.dtype).eps * self.edges[-1]
        i = torch.bucketize(t.double() + slack, edges, right=True) - 1
        inside = (i >= 0) & (i < len(edges) - 1)
        return torch.where(inside, edges[i.clamp(0, len(edges) - 2)].to(t.dtype), t)


@condition_maps.register("e-tsdm")
class ETSDM(Intervals):
    """Shares one condition in each of n equal sub-intervals of [0, t_tilde) (paper section 4)."""

    t_tilde: PositiveFloat = 100.0
    n: PositiveInt = 5

    @property
    def edges(self) -> tuple[float, ...]:
        """i t_tilde / n for i = 0..n."""
        return tuple(i * self.t_tilde / self.n for i in range(self.n + 1))

    def problems(self, horizon: float) -> list[Problem]:
        """t_tilde may not be beyond the horizon."""
        if self.t_tilde <= horizon:
            return []
        message = f"{self.t_tilde:g} is beyond the schedule's horizon; give {horizon:g} or less"
        return [Problem(("t_tilde",), message)]
