"""One condition map after another.

f = f_k o ... o f_1, from left to right as they are listed. At most one of them is a remap: it reads a time, and what follows it
works in its unit. Times that share a condition are found by pulling back the one map that shares,

    f^-1(f(t)) = (f_{j-1} o ... o f_1)^-1 [low, high),   [low, high) the fibre of f_j at (f_{j-1} o ... o f_1)(t).
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.condition_maps.intervals import Intervals
from etsdm.errors import PartError
from etsdm.registry import FieldProblem, condition_maps, field_error
from etsdm.schedules import Schedule

__all__ = ["Compose"]


@condition_maps.register("compose")
class Compose(ConditionMap):
    """Several condition maps, one after the other."""

    maps: tuple[ConditionMap, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_remap_of_what_is_no_time(self) -> Self:
        remaps = [(i, map_) for i, map_ in enumerate(self.maps) if map_.is_remap]
        if len(remaps) > 1:
            (_, before), (i, map_) = remaps[:2]
            message = f"{map_.type_name!r} reads a time, and what {before.type_name!r} before it gives is none; leave out one of them"
            raise field_error("Compose", ("maps", i), message)
        return self

    def __call__(self, t: Tensor, schedule: Schedule | None = None) -> Tensor:
        """Returns f_k(... f_1(t))."""
        for map_ in self.maps:
            t = map_(t, schedule)
        return t

    @property
    def is_remap(self) -> bool:
        """Whether one of the maps is."""
        return any(map_.is_remap for map_ in self.maps)

    @property
    def is_invertible(self) -> bool:
        """Whether all maps are."""
        return all(map_.is_invertible for map_ in self.maps)

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """The time that has a condition; see `ConditionMap.inverse`."""
        for map_ in reversed(self.maps):
            condition = map_.inverse(condition, schedule)
        return condition

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The ends of the interval of times that share the condition of t; see `ConditionMap.shared_interval`.

        After a remap that decreases, an interval is open on the left and closed on the right.

        Raises:
            ValueError: more than one of the maps shares conditions.
        """
        sharing = [i for i, map_ in enumerate(self.maps) if not map_.is_invertible]
        if len(sharing) > 1:
            raise PartError("maps", f"{len(sharing)} of them share conditions, and which times do is known for one; give one of them")
        j = sharing[0] if sharing else len(self.maps) - 1
        t = t.to(torch.float64)
        before = [t]
        for map_ in self.maps[:j]:
            before.append(map_(before[-1], schedule))
        low, high = self.maps[j].shared_interval(before[-1], schedule)
        for map_ in reversed(self.maps[:j]):
            one, other = map_.inverse(low, schedule), map_.inverse(high, schedule)
            low, high = torch.minimum(one, other), torch.maximum(one, other)
        # The maps are monotone: an end of the domain with the same condition, where a remap is clipped, brings all between.
        told, (first, last) = self(t, schedule), (torch.full_like(t, end) for end in schedule.domain)
        low = torch.where(self(first, schedule) == told, first, low)
        return low, torch.where(self(last, schedule) == told, last, high)

    def noising_time(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The time of the level of the last map that shares levels, or t; see `ConditionMap.noising_time`."""
        level, told, remap = t, t, None
        for map_ in self.maps:
            shared = map_.noising_time(told, schedule)
            if shared is not told:
                time = remap.inverse(shared, schedule).to(t.dtype) if remap else shared
                level = torch.where(shared == told, level, time)
            remap = map_ if map_.is_remap else remap
            told = map_(told, schedule)
        return level

    def check(self, schedule: Schedule) -> list[FieldProblem]:
        """What in one of the maps does not fit the schedule, or the unit of the remap before it."""
        found: list[FieldProblem] = []
        remap: ConditionMap | None = None
        for i, map_ in enumerate(self.maps):
            problems: list[FieldProblem] = []
            if remap is None:
                problems = map_.check(schedule)
            elif isinstance(map_, Intervals):
                least, greatest = sorted(remap.ends(schedule))
                of = repr(remap.type_name)
                problems = map_.out_of_range(least, greatest, f"the least that {of} gives", f"the most that {of} gives")
            found += [FieldProblem(("maps", i, *problem.location), problem.message) for problem in problems]
            remap = map_ if map_.is_remap else remap
        return found
