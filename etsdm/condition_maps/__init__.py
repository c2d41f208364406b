"""Condition maps: what the network is told instead of the true time."""

from etsdm.condition_maps.base import ConditionMap
from etsdm.condition_maps.identity import Identity
from etsdm.condition_maps.intervals import ETSDM, Intervals

__all__ = ["ETSDM", "ConditionMap", "Identity", "Intervals"]
