"""Time inputs: the value passed to the backbone's time embedding.

The condition map works in the schedule's unit; a time embedding may need another one. `auto`, the default, stands for the one that suits
the unit of the conditions, and a denoiser's specification holds that one in its place:

    timesteps 0..T-1                          timesteps    as they are
    times of a continuous schedule            scaled       to 0..1000, for which sinusoidal embeddings are made
    noise levels (schedule edm, map sigma)    log-sigma    ln(sigma)/4
    log-SNR and other values                  timesteps    as they are

A sinusoidal embedding of t in [0, 1] hardly depends on t: its fastest sine turns by one radian over the whole schedule.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.condition_maps.base import ConditionMap
from etsdm.registry import FieldProblem, Part, time_inputs
from etsdm.schedules import Schedule
from etsdm.schedules.times import as_times

__all__ = ["Auto", "LogSigma", "Scaled", "TimeInput", "Timesteps"]

EMBEDDED_RANGE = 1000.0  # of the times for which sinusoidal embeddings are made
EMBEDDING_PERIOD = 10_000.0  # their longest period over 2 pi, beyond which the slow sines no longer distinguish times


class TimeInput(Part, family=time_inputs):
    """Conversion of a condition, in the schedule's unit, to the value passed to the backbone's time embedding.

    A subclass defines `_value`.
    """

    def __call__(self, condition: Any) -> Tensor:
        """Converts conditions.

        Args:
            condition: f(t), a tensor or an array of any shape, or a number.

        Returns:
            The value for the time embedding, same shape; of a floating tensor in its dtype, else float64.
        """
        values = as_times(condition)
        return self._value(values if values.is_floating_point() else values.to(torch.float64))

    @abstractmethod
    def _value(self, condition: Tensor) -> Tensor:
        """The value for conditions that are a floating tensor, in its shape and dtype."""

    def resolved(self, condition_map: ConditionMap, schedule: Schedule) -> TimeInput:
        """The time input that this one stands for; itself, but for `auto`."""
        return self

    def check(self, condition_map: ConditionMap, schedule: Schedule) -> list[FieldProblem]:
        """Reports a conversion that does not suit the conditions of a map on a schedule."""
        return []


@time_inputs.register("auto")
class Auto(TimeInput):
    """The time input that suits the schedule and the condition map; see the module."""

    def _value(self, condition: Tensor) -> Tensor:
        # A denoiser's specification puts the chosen time input in the place of this one.
        raise ValueError("time_input 'auto' depends on the schedule; take that of a DenoiserSpec, or resolved(condition_map, schedule)")

    def resolved(self, condition_map: ConditionMap, schedule: Schedule) -> TimeInput:
        """The choice of the module's table."""
        unit = condition_map.unit(schedule)
        if unit == "noise-level":
            return LogSigma()
        return Timesteps() if unit == "other" or schedule.is_discrete else Scaled(factor=EMBEDDED_RANGE / schedule.horizon)


@time_inputs.register("timesteps")
class Timesteps(TimeInput):
    """The condition as it is (DDPM)."""

    def _value(self, condition: Tensor) -> Tensor:
        return condition

    def check(self, condition_map: ConditionMap, schedule: Schedule) -> list[FieldProblem]:
        """Reports times of a continuous schedule, and noise levels."""
        unit, high = condition_map.unit(schedule), schedule.horizon
        if unit == "noise-level":
            message = "'timesteps' passes noise levels as they are to an embedding made for their logarithm or for 0..1000"
            return [FieldProblem((), f"{message}; give auto or log-sigma, or {{type: scaled, factor: 1}} to have it so")]
        if unit == "time" and not schedule.is_discrete:
            message = f"'timesteps' passes t in [0, {high:g}] as it is to an embedding made for 0..1000"
            return [FieldProblem((), f"{message}; give auto or scaled, or {{type: scaled, factor: 1}} to have it so")]
        return []


@time_inputs.register("scaled")
class Scaled(TimeInput):
    """The condition times a factor, for schedules on [0, 1].

    Attributes:
        factor: by which conditions are multiplied.
    """

    factor: PositiveFloat = 1000.0

    def _value(self, condition: Tensor) -> Tensor:
        return condition * self.factor

    def check(self, condition_map: ConditionMap, schedule: Schedule) -> list[FieldProblem]:
        """Reports values far beyond the range of an embedding."""
        most = self.factor * max(abs(end) for end in condition_map.ends(schedule))
        if most <= EMBEDDING_PERIOD:
            return []
        message = f"{self.factor:g} makes values up to {most:g}, beyond the {EMBEDDING_PERIOD:g} of a time embedding"
        return [FieldProblem(("factor",), f"{message}; give a smaller one, or time_input: auto")]


@time_inputs.register("log-sigma")
class LogSigma(TimeInput):
    """factor ln(condition / unit), for a condition that is a noise level (Karras et al. 2022, table 1).

    The defaults are EDM's ln(sigma)/4. The VE networks of Song et al. 2021 take ln(sigma/2): factor 1, unit 2. A condition of 0
    gives -inf; give a map that shares conditions a `floor` above 0.

    Attributes:
        factor: of the logarithm.
        unit: noise level whose logarithm is 0.
    """

    factor: PositiveFloat = 0.25
    unit: PositiveFloat = 1.0

    def _value(self, condition: Tensor) -> Tensor:
        return self.factor * (condition / self.unit).log()

    def check(self, condition_map: ConditionMap, schedule: Schedule) -> list[FieldProblem]:
        """Reports conditions that are no noise level, and those without a logarithm at the times at which a network is called."""
        unit = condition_map.unit(schedule)
        if unit == "time":
            message = "'log-sigma' takes the logarithm of a noise level, and these conditions are times"
            return [FieldProblem((), f"{message}; give auto, or condition_map {{type: sigma, scale: none}}")]
        times = torch.tensor([schedule.t_min, schedule.domain[1]], dtype=torch.float64)
        first, last = self(condition_map(times, schedule)).isfinite().tolist()
        if first and last:
            return []
        found = condition_map(times, schedule)[1 if first else 0].item()
        message = f"'log-sigma' has no finite value for the condition {found:g}, at t = {times[1 if first else 0].item():g}"
        return [FieldProblem((), f"{message}; give a map with a floor above 0, such as edm-log or shared-intervals, or time_input: auto")]
