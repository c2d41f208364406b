"""Sub-intervals of time with one representative each, and the lookup of the one that holds a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.schedules.tables import plain_tensors

__all__ = ["EDGE_ULPS", "SubIntervals"]

# A time that should be an edge may arrive a few roundings below it and belongs to the sub-interval that starts there. The
# slack is this many units in the last place of the time's dtype, at the edge farthest from 0.
EDGE_ULPS = 4


class _Tables(NamedTuple):
    """Lookup tables by index of sub-interval: 0 below all of them, n + 1 above, both NaN. Fields: (n + 1,), then (n + 2,)."""

    boundaries: Tensor
    representatives: Tensor
    left: Tensor
    right: Tensor


class SubIntervals:
    """Sub-intervals [edges[i], edges[i+1]) of time, each with a representative.

    Args:
        edges: in the schedule's unit, increasing, n + 1 of them.
        representatives: one for each sub-interval, n of them.
    """

    def __init__(self, edges: tuple[float, ...], representatives: tuple[float, ...]) -> None:
        self.edges = edges
        self.representatives = representatives
        self._cache: dict[tuple[torch.dtype, torch.device], _Tables] = {}

    def representative(self, t: Tensor) -> Tensor:
        """The representative of the sub-interval that holds t, or t outside all of them; shape and dtype of t, which is floating."""
        tables, i = self._lookup(t)
        found = tables.representatives.take(i)
        return torch.where(found.isnan(), t, found)

    def ends(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The edges around a floating t, or t twice outside all sub-intervals; float64, same shape."""
        tables, i = self._lookup(t)
        low, high, t = tables.left.take(i), tables.right.take(i), t.to(torch.float64)
        return torch.where(low.isnan(), t, low), torch.where(high.isnan(), t, high)

    def _lookup(self, t: Tensor) -> tuple[_Tables, Tensor]:
        """The tables in the dtype of t, and the index of each time's sub-interval, 1 to n."""
        if torch.compiler.is_compiling():
            tables = self._tables(t.dtype, t.device)
        else:
            key = t.dtype, t.device
            if key not in self._cache:
                with plain_tensors():
                    self._cache[key] = self._tables(*key)
            tables = self._cache[key]
        dtype = tables.boundaries.dtype
        return tables, torch.bucketize(t if t.dtype == dtype else t.to(dtype), tables.boundaries, right=True)

    def _tables(self, dtype: torch.dtype, device: torch.device) -> _Tables:
        edges, nan = self.edges, float("nan")
        slack = EDGE_ULPS * torch.finfo(dtype).eps * max(abs(edges[0]), abs(edges[-1]))
        return _Tables(
            torch.tensor([edge - slack for edge in edges], dtype=torch.promote_types(dtype, torch.float32), device=device),
            torch.tensor([nan, *self.representatives, nan], dtype=dtype, device=device),
            torch.tensor([nan, *edges[:-1], nan], dtype=torch.float64, device=device),
            torch.tensor([nan, *edges[1:], nan], dtype=torch.float64, device=device),
        )
