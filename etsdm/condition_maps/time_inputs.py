"""Time inputs: the value passed to the backbone's time embedding.

The condition map works in the schedule's unit; a time embedding may need another one. `timesteps` passes the condition as it is, for
discrete schedules; `scaled` multiplies it, for sinusoidal embeddings made for 0..1000 on a schedule on [0, 1]; `log-sigma` takes the
logarithm of a condition that is a noise level.
"""

from __future__ import annotations

from abc import abstractmethod

from pydantic import PositiveFloat
from torch import Tensor

from etsdm.registry import Part, time_inputs

__all__ = ["LogSigma", "Scaled", "TimeInput", "Timesteps"]


class TimeInput(Part, family=time_inputs):
    """Conversion of a condition, in the schedule's unit, to the value passed to the backbone's time embedding."""

    @abstractmethod
    def __call__(self, condition: Tensor) -> Tensor:
        """Converts conditions. Args: condition: f(t), any shape. Returns: the value for the time embedding, same shape."""


@time_inputs.register("timesteps")
class Timesteps(TimeInput):
    """The condition as it is (DDPM)."""

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


@time_inputs.register("log-sigma")
class LogSigma(TimeInput):
    """factor ln(condition / unit), for a condition that is a noise level (Karras et al. 2022, table 1).

    The defaults are EDM's ln(sigma)/4. The VE networks of Song et al. 2021 take ln(sigma/2): factor 1, unit 2. A condition of 0
    gives -inf; give a map that shares conditions a `floor` above 0.
    """

    factor: PositiveFloat = 0.25
    unit: PositiveFloat = 1.0

    def __call__(self, condition: Tensor) -> Tensor:
        """Returns factor times the logarithm of the condition in its unit."""
        return self.factor * (condition / self.unit).log()
