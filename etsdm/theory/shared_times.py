"""Times that share a condition, with weights to average over them.

A network with the condition f(t) cannot tell apart the times of {u: f(u) = f(t)}. On a discrete schedule that is a set of
timesteps, with equal weights. On a continuous one it is an interval [low, high), with the nodes and weights of Gauss-Legendre
quadrature after the substitution

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

__all__ = ["QUADRATURE_NODES", "SharedTimes", "WeightedTimes", "quadrature", "shared_times_of"]

# Enough for 1e-12 of the optimum on sub-intervals of a tenth of the time, where the data are wider than 0.02.
QUADRATURE_NODES = 64


class WeightedTimes(NamedTuple):
    """Times that share a condition, and their weights, which add up to 1; both float64, (R, G)."""

    times: Tensor
    weights: Tensor


class SharedTimes(ABC):
    """Lookup of the training times that share the condition of a time, for one condition map on one schedule."""

    @abstractmethod
    def is_unshared(self, t: Tensor) -> Tensor:
        """True if no other training time has the condition of t. Args: t: times, (R,). Returns: bool, (R,)."""

    @abstractmethod
    def of(self, t: Tensor) -> WeightedTimes:
        """Training times that share the condition of t. Args: t: timesteps, or times that share a condition, (R,). Returns: (R, G)."""


def shared_times_of(condition_map: ConditionMap, schedule: Schedule) -> SharedTimes:
    """Makes the lookup, among the timesteps of a discrete schedule or all times of a continuous one."""
    return _Timesteps(condition_map, schedule) if schedule.is_discrete else _Intervals(condition_map, schedule)


class _Timesteps(SharedTimes):
    """Timesteps grouped by condition, in float64."""

    def __init__(self, condition_map: ConditionMap, schedule: Schedule) -> None:
        self._map = condition_map
        self._schedule = schedule
        condition = condition_map(torch.arange(int(schedule.horizon), dtype=torch.float64), schedule)
        # Increasing conditions; timesteps ordered by condition; where each condition's timesteps begin, and their number.
        group: Tensor
        self._conditions: Tensor
        self._size: Tensor
        self._conditions, group, self._size = condition.unique(return_inverse=True, return_counts=True)
        self._timesteps, self._start = group.argsort(stable=True), self._size.cumsum(0) - self._size

    def is_unshared(self, t: Tensor) -> Tensor:
        t = t.detach().to("cpu", torch.float64)
        condition, group = self._find(t)
        alone = (self._size[group] == 1) & (self._timesteps[self._start[group]] == t)
        return (self._conditions[group] != condition) | alone

    def of(self, t: Tensor) -> WeightedTimes:
        _, group = self._find(t.detach().to("cpu", torch.float64))
        size = self._size[group, None]
        column = torch.arange(int(size.max()))
        times = self._timesteps[self._start[group, None] + column.clamp(max=size - 1)].to(torch.float64)
        return WeightedTimes(times.to(t.device), ((column < size) / size.to(torch.float64)).to(t.device))

    def _find(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Conditions of t, and the index of the group with that condition or the next greater."""
        condition = self._map(t, self._schedule)
        return condition, torch.searchsorted(self._conditions, condition).clamp(max=len(self._conditions) - 1)


class _Intervals(SharedTimes):
    """Intervals of a continuous schedule."""

    def __init__(self, condition_map: ConditionMap, schedule: Schedule) -> None:
        self._map = condition_map
        self._schedule = schedule

    def is_unshared(self, t: Tensor) -> Tensor:
        low, high = self._map.shared_interval(t.detach(), self._schedule)
        return low == high

    def of(self, t: Tensor) -> WeightedTimes:
        return quadrature(*self._map.shared_interval(t.detach(), self._schedule))


def quadrature(low: Tensor, high: Tensor) -> WeightedTimes:
    """Nodes and weights of the mean over [low, high] of a function of u that is smooth in sqrt(u - low).

    Args:
        low: lower ends, float64, (R,).
        high: upper ends, same shape.

    Returns:
        (R, 64).
    """
    w, dw = (torch.from_numpy(column).to(low.device) for column in _legendre())
    times = low[:, None] + (high - low)[:, None] * w**2
    return WeightedTimes(times, (2 * w * dw).expand_as(times))


@lru_cache(maxsize=1)
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    return (nodes + 1) / 2, weights / 2
