"""Maps that share one condition in each of several sub-intervals of time; E-TSDM is the uniform one.

Given edges e_0 < e_1 < ... < e_n, every t in [e_i, e_{i+1}) gets the condition r_i of sub-interval i; times outside
[e_0, e_n) keep their own. The representative r_i is one of

    left     e_i                       mid      (e_i + e_{i+1}) / 2
    right    e_{i+1}                   log-mid  sqrt(e_i e_{i+1})

With e_i = i t_tilde / n and r_i = e_i this is f_T of the paper (section 4).
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from itertools import pairwise
from math import sqrt
from typing import Literal, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.condition_maps.sub_intervals import SubIntervals
from etsdm.registry import FieldProblem, condition_maps, field_error
from etsdm.registry.counts import IntervalCount
from etsdm.schedules import Schedule

__all__ = ["ETSDM", "Intervals", "SharedIntervals"]

Share = Literal["condition", "both"]


class Intervals(ConditionMap):
    """One condition in each sub-interval, its representative; the identity elsewhere.

    The method of the paper shares the condition alone. With `share` "both", training images are noised at alpha and sigma of the
    representative as well.
    """

    @property
    @abstractmethod
    def sub_intervals(self) -> SubIntervals:
        """The sub-intervals in the schedule's unit, with the condition of each as representative."""

    @property
    @abstractmethod
    def shares_noise_level(self) -> bool:
        """True if the times of a sub-interval share alpha and sigma in training, beside the condition."""

    def _condition(self, t: Tensor, schedule: Schedule | None) -> Tensor:
        return self.sub_intervals.representative(t)

    @property
    def keeps_integers(self) -> bool:
        """True if all representatives are integers."""
        return all(float(value).is_integer() for value in self.sub_intervals.representatives)

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The edges of t's sub-interval; see `ConditionMap.shared_interval`."""
        return self.sub_intervals.ends(t if t.is_floating_point() else t.to(torch.float64))

    def noising_time(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The representative of t's sub-interval where alpha and sigma are shared, else t."""
        return self(t) if self.shares_noise_level else t

    def check(self, schedule: Schedule) -> list[FieldProblem]:
        """Reports edges outside the schedule, and shared noise levels that are 0 or after its last time."""
        edges, representatives = self.sub_intervals.edges, self.sub_intervals.representatives
        found = self.out_of_range(schedule.domain[0], schedule.horizon, "the schedule's first time", "the schedule's horizon")
        first = representatives[0]
        if not found and self.shares_noise_level and schedule.sigma(first) == 0:
            message = f"'both' would train the first sub-interval on images without noise, at t = {first:g}; give shared-intervals a floor"
            found.append(FieldProblem(("share",), message))
        # The horizon of a discrete schedule is one step after its last time, so a sub-interval may reach beyond that.
        last, end = representatives[-1], schedule.domain[1]
        if not found and self.shares_noise_level and edges[-2] <= end < last:
            where = f"at t = {last:g}, after the schedule's last time, {end:g}"
            found.append(FieldProblem(("share",), f"'both' would train the last sub-interval {where}; give a smaller last edge"))
        return found

    def out_of_range(self, low: float, high: float, low_name: str, high_name: str) -> list[FieldProblem]:
        """Reports edges outside [low, high]; messages call the two limits by `low_name` and `high_name`."""
        first, last = self.sub_intervals.edges[0], self.sub_intervals.edges[-1]
        found = []
        if first < low:
            found.append(FieldProblem(("edges",), f"{first:g} is before {low_name}; give {low:g} or more"))
        if last > high:
            found.append(FieldProblem(("edges",), f"{last:g} is beyond {high_name}; give {high:g} or less"))
        return found


@condition_maps.register("shared-intervals")
class SharedIntervals(Intervals):
    """Shares one condition in each sub-interval between given edges.

    Attributes:
        edges: edges of the sub-intervals in the schedule's unit, increasing, n + 1 of them.
        representative: the condition of a sub-interval; see the module.
        floor: lower bound of the left edges as representatives, and under the root of log-mid; keeps the condition above 0 for a
            time input that takes its logarithm.
        share: `condition`, or `both` to share alpha and sigma in training as well.
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

    @model_validator(mode="after")
    def _make_sub_intervals(self) -> Self:
        _ = self.sub_intervals  # at once, because torch.compile cannot trace the lock of a cached property (Python 3.11)
        return self

    @cached_property
    def sub_intervals(self) -> SubIntervals:
        """The given edges, with `representative` of each sub-interval."""
        return SubIntervals(self.edges, self._representatives)

    @property
    def shares_noise_level(self) -> bool:
        """True if `share` is "both"."""
        return self.share == "both"

    @property
    def _representatives(self) -> tuple[float, ...]:
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

    Attributes:
        t_tilde: end of the shared times, in the schedule's unit.
        n: number of sub-intervals; where it does not divide t_tilde, edges lie between timesteps.
        share: `condition`, or `both` to share alpha and sigma in training as well.
    """

    t_tilde: PositiveFloat = 100.0
    n: IntervalCount = 5
    share: Share = "condition"

    @model_validator(mode="after")
    def _make_sub_intervals(self) -> Self:
        _ = self.sub_intervals  # at once, as in `SharedIntervals`
        return self

    @cached_property
    def sub_intervals(self) -> SubIntervals:
        """n equal sub-intervals of [0, t_tilde), represented by their left edges."""
        edges = tuple(i * self.t_tilde / self.n for i in range(self.n + 1))
        return SubIntervals(edges, edges[:-1])

    @property
    def edges(self) -> tuple[float, ...]:
        """i t_tilde / n for i = 0..n."""
        return self.sub_intervals.edges

    @property
    def shares_noise_level(self) -> bool:
        """True if `share` is "both"."""
        return self.share == "both"

    def out_of_range(self, low: float, high: float, low_name: str, high_name: str) -> list[FieldProblem]:
        """Reports t_tilde, the last edge, above `high`; the first edge is 0, also where times start later."""
        found = super().out_of_range(min(low, 0.0), high, low_name, high_name)
        return [FieldProblem(("t_tilde",), problem.message) for problem in found]
