"""Time inputs: the number that stands for a condition at the network's door.

The condition map works in the schedule's unit; a network may want another one. `timesteps` hands the condition on as it is,
which suits discrete schedules; `scaled` multiplies it, so that a schedule on [0, 1] reaches a sinusoidal embedding that was
made for 0..1000.
"""

from __future__ import annotations

from abc import abstractmethod

from pydantic import PositiveFloat
from torch import Tensor

from etsdm.registry import Part, time_inputs

__all__ = ["Scaled", "TimeInput", "Timesteps"]


class TimeInput(Part, family=time_inputs):
    """From a condition, in the schedule's unit, to the network's input."""

    @abstractmethod
    def __call__(self, condition: Tensor) -> Tensor:
        """Args: condition: f(t), any shape. Returns: the network's input, same shape."""


@time_inputs.register("timesteps")
class Timesteps(TimeInput):
    """The condition as it is (DDPM and its descendants)."""

    def __call__(self, condition: Tensor) -> Tensor:
        """Returns the condition."""
        return condition


@time_inputs.register("scaled")
class Scaled(TimeInput):
    """The condition times a factor, for schedules on [0, 1]."""

    factor: PositiveFloat = 1000.0

    def __call__(self, condition: Tensor) -> Tensor:
        """Returns factor times the condition."""
        return condition * self.factor
