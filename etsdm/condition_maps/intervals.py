"""Maps that share one condition in each of several sub-intervals of time; E-TSDM is the uniform one.

Given edges e_0 < e_1 < ... < e_n, every t in [e_i, e_{i+1}) gets the condition r_i of sub-interval i; times outside
[e_0, e_n) keep their own. The representative r_i is one of

    left     e_i                       mid      (e_i + e_{i+1}) / 2
    right    e_{i+1}                   log-mid  sqrt(e_i e_{i+1})

With e_i = i t_tilde / n and r_i = e_i this is f_T of the paper (section 4).
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.registry import FieldProblem, condition_maps, field_error
from etsdm.schedules import Schedule
from etsdm.schedules.tables import plain_tensors

__all__ = ["EDGE_ULPS", "ETSDM", "Intervals", "SharedIntervals"]

# A time that should be an edge may arrive a few roundings below it and belongs to the sub-interval that starts there. The
# slack is this many units in the last place of the time's dtype, at the edge farthest from 0.
EDGE_ULPS = 4

Share = Literal["condition", "both"]


class _Tables(NamedTuple):
    """By number of sub-interval, 0 below them and n + 1 above; NaN where a time keeps its own. Fields: (n + 1,), then (n + 2,)."""

    boundaries: Tensor
    condition: Tensor
    left: Tensor
    right: Tensor


class Intervals(ConditionMap):
    """One condition in each sub-interval [edges[i], edges[i+1]); the identity elsewhere.

    With `share` "both" a training image is noised at the level of its sub-interval's representative as well; the method of the
    paper shares the condition alone.
    """

    if TYPE_CHECKING:
        # What a subclass has, as a field or derived from its fields; as fields here they would come before its own.
        @property
        def edges(self) -> tuple[float, ...]:
            """Edges of the sub-intervals in the schedule's unit, increasing, n + 1 of them."""

        @property
        def share(self) -> Share:
            """What the times of a sub-interval have in common."""

    @property
    def representatives(self) -> tuple[float, ...]:
        """The condition of each sub-interval, n of them: its left edge."""
        return self.edges[:-1]

    def __call__(self, t: Tensor, schedule: Schedule | None = None) -> Tensor:
        """Returns the representative of t's sub-interval, or t itself outside all of them."""
        t = t if t.is_floating_point() else t.to(torch.float64)
        tables, i = self._look_up(t)
        condition = tables.condition.take(i)
        return torch.where(condition.isnan(), t, condition)

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The edges of t's sub-interval; see `ConditionMap.shared_interval`."""
        tables, i = self._look_up(t if t.is_floating_point() else t.to(torch.float64))
        low, high, t = tables.left.take(i), tables.right.take(i), t.to(torch.float64)
        return torch.where(low.isnan(), t, low), torch.where(high.isnan(), t, high)

    def noising_time(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The representative of t's sub-interval where levels are shared, else t."""
        return self(t) if self.share == "both" else t

    def check(self, schedule: Schedule) -> list[FieldProblem]:
        """Edges may not be outside the schedule, nor shared levels without noise or after its last time."""
        found = self.out_of_range(schedule.domain[0], schedule.horizon, "the schedule's first time", "the schedule's horizon")
        first = self.representatives[0]
        if not found and self.share == "both" and schedule.sigma(first) == 0:
            message = f"'both' would train the first sub-interval on images without noise, at t = {first:g}; give shared-intervals a floor"
            found.append(FieldProblem(("share",), message))
        # The horizon of a discrete schedule is one step after its last time, so a sub-interval may reach beyond that.
        last, end = self.representatives[-1], schedule.domain[1]
        if not found and self.share == "both" and self.edges[-2] <= end < last:
            where = f"at t = {last:g}, after the schedule's last time, {end:g}"
            found.append(FieldProblem(("share",), f"'both' would train the last sub-interval {where}; give a smaller last edge"))
        return found

    def out_of_range(self, low: float, high: float, start: str, end: str) -> list[FieldProblem]:
        """Edges outside [low, high], which messages call `start` and `end`."""
        found = []
        if self.edges[0] < low:
            found.append(FieldProblem(("edges",), f"{self.edges[0]:g} is before {start}; give {low:g} or more"))
        if self.edges[-1] > high:
            found.append(FieldProblem(("edges",), f"{self.edges[-1]:g} is beyond {end}; give {high:g} or less"))
        return found

    def _look_up(self, t: Tensor) -> tuple[_Tables, Tensor]:
        """The tables for a floating t, and the number of each time's sub-interval, 1 to n."""
        if torch.compiler.is_compiling():
            tables = self._tables(t.dtype, t.device)
        else:
            key = t.dtype, t.device
            if key not in self._kept:
                with plain_tensors():
                    self._kept[key] = self._tables(*key)
            tables = self._kept[key]
        kind = tables.boundaries.dtype
        return tables, torch.bucketize(t if t.dtype == kind else t.to(kind), tables.boundaries, right=True)

    @cached_property
    def _kept(self) -> dict[tuple[torch.dtype, torch.device], _Tables]:
        return {}

    def _tables(self, dtype: torch.dtype, device: torch.device) -> _Tables:
        edges, nan = self.edges, float("nan")
        slack = EDGE_ULPS * torch.finfo(dtype).eps * max(abs(edges[0]), abs(edges[-1]))
        return _Tables(
            torch.tensor([edge - slack for edge in edges], dtype=torch.promote_types(dtype, torch.float32), device=device),
            torch.tensor([nan, *self.representatives, nan], dtype=dtype, device=device),
            torch.tensor([nan, *edges[:-1], nan], dtype=torch.float64, device=device),
            torch.tensor([nan, *edges[1:], nan], dtype=torch.float64, device=device),
        )


@condition_maps.register("shared-intervals")
class SharedIntervals(Intervals):
    """Shares one condition in each sub-interval between given edges.

    `floor`, where it is not 0, is the least left edge as a representative or under the root of log-mid: a network that takes
    the condition's logarithm cannot be told 0.
    """

    edges: tuple[float, ...]
    representative: Literal["left", "mid", "right", "log-mid"] = "left"
    floor: NonNegativeFloat = 0.0
    share: Share = "condition"

    @model_validator(mode="after")
    def _edges_make_sub_intervals(self) -> Self:
        if len(self.edges) < 2:
            raise field_error(
                "SharedIntervals", ("edges",), f"found {len(self.edges)}; give 2 or more, the ends of 1 or more sub-intervals"
            )
        for left, right in pairwise(self.edges):
            if left >= right:
                raise field_error("SharedIntervals", ("edges",), f"found {left:g} before {right:g}; give strictly increasing edges")
        if self.floor and self.floor >= self.edges[1]:
            message = f"{self.floor:g} is beyond the first sub-interval; give a value below {self.edges[1]:g}"
            raise field_error("SharedIntervals", ("floor",), message)
        if self.representative == "log-mid" and self._left_edges[0] <= 0:
            message = f"{self.edges[0]:g} has no logarithm for log-mid; give a positive first edge, or a positive floor"
            raise field_error("SharedIntervals", ("edges",), message)
        return self

    @model_validator(mode="after")
    def _a_shared_level_is_in_its_sub_interval(self) -> Self:
        if self.share == "both" and self.representative == "right":
            message = "'both' needs a representative inside its sub-interval, and 'right' is not; give left, mid or log-mid"
            raise field_error("SharedIntervals", ("share",), message)
        return self

    @property
    def _left_edges(self) -> tuple[float, ...]:
        return tuple(max(edge, self.floor) for edge in self.edges[:-1]) if self.floor else self.edges[:-1]

    @property
    def representatives(self) -> tuple[float, ...]:
        """The condition of each sub-interval, n of them."""
        match self.representative:
            case "left":
                return self._left_edges
            case "mid":
                return tuple((left + right) / 2 for left, right in pairwise(self.edges))
            case "right":
                return self.edges[1:]
            case "log-mid":
                return tuple(sqrt(left * right) for left, right in zip(self._left_edges, self.edges[1:], strict=True))


@condition_maps.register("e-tsdm")
class ETSDM(Intervals):
    """Shares one condition in each of n equal sub-intervals of [0, t_tilde) (paper section 4).

    A t_tilde that n does not divide gives edges between the timesteps, and still n conditions.
    """

    t_tilde: PositiveFloat = 100.0
    n: int = Field(5, gt=0, le=100_000)
    share: Share = "condition"

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """i t_tilde / n for i = 0..n."""
        return tuple(i * self.t_tilde / self.n for i in range(self.n + 1))

    def out_of_range(self, low: float, high: float, start: str, end: str) -> list[FieldProblem]:
        """As those of edges, of which t_tilde is the last; the first is 0, also where times start later."""
        return [FieldProblem(("t_tilde",), problem.message) for problem in super().out_of_range(min(low, 0.0), high, start, end)]
