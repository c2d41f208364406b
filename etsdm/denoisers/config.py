"""The configuration that denoisers and their specs share: all that samplers and losses need before a network is called."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from etsdm.condition_maps import ConditionMap, Identity, TimeInput, Timesteps
from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target

__all__ = ["DenoiserConfig", "ScheduleConfig", "condition_at"]


class DenoiserConfig(Protocol):
    """Configuration of a denoiser: schedule, target, condition map, time input and data range."""

    @property
    def schedule(self) -> Schedule:
        """The noise schedule."""

    @property
    def target(self) -> Target:
        """The prediction target of the network."""

    @property
    def condition_map(self) -> ConditionMap:
        """f, from time to condition."""

    @property
    def time_input(self) -> TimeInput:
        """From the condition to the network's time embedding."""

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1]."""


class ScheduleConfig(NamedTuple):
    """The configuration that a schedule has alone: noise prediction and no condition map."""

    schedule: Schedule
    target: Target = Eps()
    condition_map: ConditionMap = Identity()
    time_input: TimeInput = Timesteps()
    bounded: bool = True


def condition_at(config: DenoiserConfig, t: Tensor) -> Tensor:
    """The value that the network receives as time, time_input(f(t)). Args: t: times, any shape. Returns: same shape."""
    return config.time_input(config.condition_map(t, config.schedule))
