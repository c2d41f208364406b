"""Condition maps: what the network is told instead of the true time.

A map f sends a time t, in the schedule's unit, to the condition f(t) that the backbone receives. Only the condition changes:
alpha, sigma, the target and every coefficient of a sampler use the true t (paper Eq. 9, 10).
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from etsdm.registry import Part, Problem, condition_maps

__all__ = ["ConditionMap"]


class ConditionMap(Part, family=condition_maps):
    """f: t -> condition, elementwise, the same in training and in sampling."""

    @abstractmethod
    def __call__(self, t: Tensor) -> Tensor:
        """Args: t: times, any shape. Returns: conditions, same shape; float64 where t is an integer tensor, else t's dtype."""

    def problems(self, horizon: float) -> list[Problem]:
        """What in this map does not fit a schedule that ends at `horizon`; locations are relative to the map."""
        return []
