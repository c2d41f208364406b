"""The configuration that denoisers and their specs share."""

from __future__ import annotations

from typing import Protocol

from etsdm.condition_maps import ConditionMap
from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["Asked"]


class Asked(Protocol):
    """What samplers and losses have to know of a denoiser before they call it; a denoiser's spec has it too."""

    @property
    def schedule(self) -> Schedule:
        """The noise schedule."""

    @property
    def target(self) -> Target:
        """What the network predicts."""

    @property
    def condition_map(self) -> ConditionMap:
        """From time to what the network is told."""

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1]."""

    @property
    def learns_variance(self) -> bool:
        """Whether the network's output has a second half, for the variance of sampling steps."""
