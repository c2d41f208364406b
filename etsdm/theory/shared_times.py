"""Which times share a condition, as times and weights to average over.

A network that is told f(t) cannot tell apart the times of the fibre {u: f(u) = f(t)}. On a discrete schedule that is a set of
timesteps, with equal weights. On a continuous one it is an interval [low, high), for which Gauss and Legendre's quadrature
stands after the substitution

    u = low + (high - low) w^2,    du = 2 (high - low) w dw,

in which sqrt(u), and with it sigma near 0, is smooth at low = 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.schedules import Schedule

__all__ = ["NODES", "Fibre", "SharedTimes", "fibres", "quadrature"]

# Enough for 1e-12 of the optimum on sub-intervals of a tenth of the time, where the data are wider than 0.02.
NODES = 64


class Fibre(NamedTuple):
    """Times that share a condition, and their weights, which add up to 1; both float64, (R, G)."""

    times: Tensor
    weights: Tensor


class SharedTimes(ABC):
    """The fibres of one condition map on one schedule."""

    @abstractmethod
    def is_unshared(self, t: Tensor) -> Tensor:
        """Whether no other time of training has the condition of t. Args: t: times, (R,). Returns: bool, (R,)."""

    @abstractmethod
    def of(self, t: Tensor) -> Fibre:
        """The fibre of each time that is a timestep or shares a condition. Args: t: times, (R,). Returns: (R, G)."""


def fibres(condition_map: ConditionMap, schedule: Schedule) -> SharedTimes:
    """The fibres of a condition map, among the timesteps of a discrete schedule or among all times of a continuous one."""
    return _Timesteps(condition_map, schedule) if schedule.is_discrete else _Intervals(condition_map, schedule)


class _Groups(NamedTuple):
    """Conditions, increasing; the timesteps ordered by condition; where each condition's begin, and how many they are."""

    conditions: Tensor
    timesteps: Tensor
    start: Tensor
    size: Tensor


class _Timesteps(SharedTimes):
    def __init__(self, condition_map: ConditionMap, schedule: Schedule) -> None:
        self._map = condition_map
        self._schedule = schedule
        # A condition is found among those of the timesteps by equality, and so in the precision of t.
        self._groups = {dtype: _groups(condition_map, schedule, dtype) for dtype in (torch.float32, torch.float64)}

    def is_unshared(self, t: Tensor) -> Tensor:
        groups, g, t = self._find(t)
        return (groups.conditions[g] != self._map(t, self._schedule)) | ((groups.size[g] == 1) & (groups.timesteps[groups.start[g]] == t))

    def of(self, t: Tensor) -> Fibre:
        groups, g, _ = self._find(t)
        size = groups.size[g, None]
        column = torch.arange(int(size.max()))
        times = groups.timesteps[groups.start[g, None] + column.clamp(max=size - 1)].to(torch.float64)
        return Fibre(times.to(t.device), ((column < size) / size.to(torch.float64)).to(t.device))

    def _find(self, t: Tensor) -> tuple[_Groups, Tensor, Tensor]:
        """The groups in the precision of t, the number of that with the condition of t or the next greater, and t on the CPU."""
        t = t.detach().cpu()
        if t.dtype not in self._groups:
            t = t.to(torch.float32 if t.is_floating_point() else torch.float64)
        groups = self._groups[t.dtype]
        g = torch.searchsorted(groups.conditions, self._map(t, self._schedule))
        return groups, g.clamp(max=len(groups.conditions) - 1), t


def _groups(condition_map: ConditionMap, schedule: Schedule, dtype: torch.dtype) -> _Groups:
    condition = condition_map(torch.arange(int(schedule.horizon), dtype=dtype), schedule)
    conditions, group, size = condition.unique(return_inverse=True, return_counts=True)
    return _Groups(conditions, group.argsort(stable=True), size.cumsum(0) - size, size)


class _Intervals(SharedTimes):
    def __init__(self, condition_map: ConditionMap, schedule: Schedule) -> None:
        self._map = condition_map
        self._schedule = schedule

    def is_unshared(self, t: Tensor) -> Tensor:
        low, high = self._map.shared_interval(t.detach(), self._schedule)
        return low == high

    def of(self, t: Tensor) -> Fibre:
        return quadrature(*self._map.shared_interval(t.detach(), self._schedule))


def quadrature(low: Tensor, high: Tensor) -> Fibre:
    """Nodes and weights of the mean over [low, high] of a function of u that is smooth in sqrt(u - low).

    Args:
        low: lower ends, float64, (R,).
        high: upper ends, likewise.

    Returns:
        (R, 64).
    """
    w, dw = (torch.from_numpy(column).to(low.device) for column in _legendre())
    times = low[:, None] + (high - low)[:, None] * w**2
    return Fibre(times, (2 * w * dw).expand_as(times))


@lru_cache(maxsize=1)
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss and Legendre's nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / 2
