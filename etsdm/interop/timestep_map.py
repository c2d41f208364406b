"""A condition map in the unit of a network's timestep argument."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.errors import PartError
from etsdm.interop.time_units import UNITS

__all__ = ["TimestepMap"]


@dataclass(frozen=True)
class TimestepMap:
    """The condition of a network's timestep argument, in the argument's own unit, type and dtype.

    An argument whose time the map leaves unchanged is returned bit for bit.

    Attributes:
        condition_map: the map, in time or noise level.
        argument: name of the network's argument.
        unit: its unit, a name of `etsdm.interop.time_units`.
        horizon: largest time, at pure noise.
        position: index among the positional arguments of `forward`; None for keyword only.
    """

    condition_map: ConditionMap
    argument: str
    unit: str = "timesteps"
    horizon: float = 1000.0
    position: int | None = None

    def __call__(self, argument: Any) -> Any:
        """Maps an argument.

        Args:
            argument: a tensor of any shape, a number, or None, which is returned. Half precision is mapped in float32 and rounded
                back; integers stay integers where the map gives integers, else they become float32.

        Raises:
            PartError: it is something else.
        """
        if isinstance(argument, Tensor) and argument.dtype is not torch.bool and not argument.dtype.is_complex:
            return self._of_tensor(argument)
        if argument is None:
            return None
        if isinstance(argument, Real) and not isinstance(argument, bool):
            mapped = self._of_tensor(torch.tensor(argument, dtype=torch.int64 if isinstance(argument, int) else torch.float64))
            return mapped if torch.compiler.is_compiling() else mapped.item()
        found = f"a tensor of {argument.dtype}" if isinstance(argument, Tensor) else f"a {type(argument).__name__}"
        raise PartError(self.argument, f"found {found}; give the timestep as a tensor or a number")

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call of `forward`, the timestep among them mapped."""
        if self.argument in kwargs:
            return args, {**kwargs, self.argument: self(kwargs[self.argument])}
        i = self.position
        if i is not None and i < len(args):
            return (*args[:i], self(args[i]), *args[i + 1 :]), kwargs
        return args, kwargs

    def _of_tensor(self, argument: Tensor) -> Tensor:
        dtype = argument.dtype
        if dtype.is_floating_point:
            return self._mapped(argument) if dtype.itemsize >= 4 else self._of_half(argument)
        mapped = self._mapped(argument.to(torch.float32 if argument.device.type == "mps" else torch.float64))
        return mapped.to(dtype if self._keeps_integers else torch.float32)

    def _of_half(self, argument: Tensor) -> Tensor:
        """The condition of a time in half precision; one that is an edge up to rounding belongs to the sub-interval that starts there."""
        wide, eps = argument.to(torch.float32), torch.finfo(argument.dtype).eps
        rounding = wide.abs() * eps * (0.5 + eps)
        later = wide - rounding if self.unit.startswith("reversed") else wide + rounding
        found, of_later = self._mapped(torch.stack([wide, later]))
        is_edge = (of_later.to(argument.dtype) == argument) | (of_later == later)
        return torch.where(is_edge, argument, found.to(argument.dtype))

    def _mapped(self, argument: Tensor) -> Tensor:
        if self.unit in ("timesteps", "sigma"):
            return self.condition_map(argument)
        unit = UNITS[self.unit]
        time = unit.time(argument, self.horizon)
        condition = self.condition_map(time)
        return torch.where(condition == time, argument, unit.argument(condition, self.horizon))

    @property
    def _keeps_integers(self) -> bool:
        steps = self.unit == "timesteps" or (self.unit == "reversed-timesteps" and float(self.horizon).is_integer())
        return steps and self.condition_map.keeps_integers
