"""Composition of condition maps.

f = f_k o ... o f_1, from left to right as they are listed. At most one of the maps is a remap, after which the others work in its
unit, and at most one shares conditions. With f_j the sharing map and g = f_{j-1} o ... o f_1 the maps before it, the times that
share a condition are a preimage,

    f^-1(f(t)) = g^-1 [low, high),   [low, high) the shared interval of f_j at g(t).
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap, ConditionUnit
from etsdm.condition_maps.constant import Constant
from etsdm.condition_maps.intervals import Intervals
from etsdm.registry import FieldProblem, condition_maps, field_error
from etsdm.schedules import Schedule

__all__ = ["Compose"]


@condition_maps.register("compose")
class Compose(ConditionMap):
    """Several condition maps, one after the other.

    Attributes:
        maps: from the first applied to the last; at most one remap and at most one sharing map.
    """

    maps: tuple[ConditionMap, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _at_most_one_remap(self) -> Self:
        remaps = [(i, map_) for i, map_ in enumerate(self.maps) if map_.is_remap]
        if len(remaps) > 1:
            (_, before), (i, map_) = remaps[:2]
            message = f"{map_.type_name!r} takes a time, and {before.type_name!r} before it gives another unit; leave out one of them"
            raise field_error("Compose", ("maps", i), message)
        return self

    @model_validator(mode="after")
    def _at_most_one_sharing_map(self) -> Self:
        sharing = [(i, map_) for i, map_ in enumerate(self.maps) if not map_.is_invertible]
        if len(sharing) > 1:
            (_, before), (i, map_) = sharing[:2]
            message = f"{map_.type_name!r} shares conditions, as {before.type_name!r} before it does; leave out one of them"
            raise field_error("Compose", ("maps", i), message)
        return self

    def _condition(self, t: Tensor, schedule: Schedule | None) -> Tensor:
        return _apply(self.maps, t, schedule)

    def unit(self, schedule: Schedule) -> ConditionUnit:
        """The unit of the remap, or of a constant, if one of the maps is one; else that of time."""
        changed = [map_ for map_ in self.maps if map_.is_remap or isinstance(map_, Constant)]
        return changed[-1].unit(schedule) if changed else super().unit(schedule)

    @property
    def keeps_integers(self) -> bool:
        """True if all maps keep integers."""
        return all(map_.keeps_integers for map_ in self.maps)

    @property
    def is_remap(self) -> bool:
        """True if one of the maps is a remap."""
        return any(map_.is_remap for map_ in self.maps)

    @property
    def is_invertible(self) -> bool:
        """True if all maps are invertible."""
        return all(map_.is_invertible for map_ in self.maps)

    def inverse(self, condition: Tensor, schedule: Schedule) -> Tensor:
        """Computes the time from its condition; see `ConditionMap.inverse`."""
        return _inverse(self.maps, condition, schedule)

    def shared_interval(self, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """Ends of the interval of times that share the condition of t; see `ConditionMap.shared_interval`.

        After a remap that decreases, an interval is open on the left and closed on the right.
        """
        before, sharing = self._split()
        t = t.to(torch.float64)
        low, high = sharing.shared_interval(_apply(before, t, schedule), schedule)
        if before:
            one, other = _inverse(before, low, schedule), _inverse(before, high, schedule)
            low, high = torch.minimum(one, other), torch.maximum(one, other)
        # The maps are monotone: an end of the domain with the same condition, where a remap is clipped, brings all between.
        condition, (first, last) = self(t, schedule), (torch.full_like(t, end) for end in schedule.domain)
        low = torch.where(self(first, schedule) == condition, first, low)
        return low, torch.where(self(last, schedule) == condition, last, high)

    def noising_time(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The noising time of the sharing map, as a time; see `ConditionMap.noising_time`."""
        before, sharing = self._split()
        value = _apply(before, t, schedule)
        shared = sharing.noising_time(value, schedule)
        if shared is value:
            return t
        time = _inverse(before, shared, schedule).to(t.dtype) if any(map_.is_remap for map_ in before) else shared
        return torch.where(shared == value, t, time)

    def check(self, schedule: Schedule) -> list[FieldProblem]:
        """Reports fields of the maps that do not fit the schedule, or the unit of the remap before them."""
        found: list[FieldProblem] = []
        remap: ConditionMap | None = None
        for i, map_ in enumerate(self.maps):
            problems: list[FieldProblem] = []
            if remap is None:
                problems = map_.check(schedule)
            elif isinstance(map_, Intervals):
                least, greatest = sorted(remap.ends(schedule))
                name = repr(remap.type_name)
                problems = map_.out_of_range(least, greatest, f"the smallest value of {name}", f"the largest value of {name}")
            found += [FieldProblem(("maps", i, *problem.location), problem.message) for problem in problems]
            remap = map_ if map_.is_remap else remap
        return found

    def _split(self) -> tuple[tuple[ConditionMap, ...], ConditionMap]:
        """The maps before the sharing one, and that one; without a sharing map, the last one."""
        j = next((i for i, map_ in enumerate(self.maps) if not map_.is_invertible), len(self.maps) - 1)
        return self.maps[:j], self.maps[j]


def _apply(maps: tuple[ConditionMap, ...], t: Tensor, schedule: Schedule | None) -> Tensor:
    for map_ in maps:
        t = map_(t, schedule)
    return t


def _inverse(maps: tuple[ConditionMap, ...], condition: Tensor, schedule: Schedule) -> Tensor:
    for map_ in reversed(maps):
        condition = map_.inverse(condition, schedule)
    return condition
