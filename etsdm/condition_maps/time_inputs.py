"""Time inputs: the value passed to the backbone's time embedding.

The condition map works in the schedule's unit; a time embedding may need another one. `timesteps` passes the condition as it is, for
discrete schedules; `scaled` multiplies it, for sinusoidal embeddings made for 0..1000 on a schedule on [0, 1]; `log-sigma` takes the
logarithm of a condition that is a noise level.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.registry import Part, time_inputs
from etsdm.schedules.times import as_times

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LogSigma", "Scaled", "TimeInput", "Timesteps"]


class TimeInput(Part, family=time_inputs):
    """Conversion of a condition, in the schedule's unit, to the value passed to the backbone's time embedding.

    A subclass defines `__call__` for floating tensors; integers, numbers and arrays are converted to float64 before it is called.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            cls.__call__ = _of_any_conditions(cls.__call__)  # type: ignore[method-assign]

    @abstractmethod
    def __call__(self, condition: Any) -> Tensor:
        """Converts conditions.

        Args:
            condition: f(t), a tensor or an array of any shape, or a number.

        Returns:
            The value for the time embedding, same shape.
        """


def _of_any_conditions(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A time input's `__call__` for integers, numbers and arrays too."""

    @wraps(call)
    def converted(self: TimeInput, condition: Tensor | ArrayLike) -> Tensor:
        values = as_times(condition)
        return call(self, values if values.is_floating_point() else values.to(torch.float64))

    return converted


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
