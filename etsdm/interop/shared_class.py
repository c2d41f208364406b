"""Classes of networks that map their timestep before `forward`.

A shared network gets a subclass of its own class, with the same name and module, whose `forward` maps the timestep and calls that of
its base. So the map acts whether the network is called, compiled, exported or entered by `forward`; a deep copy has it and computes
with its own weights; `isinstance`, the name in diffusers' configs and the keys of the state dict stay.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from etsdm.interop.subclass import BASE, in_place_subclass
from etsdm.interop.timestep_map import TimestepMap

__all__ = ["map_of", "put_on", "shared_class", "take_off"]

MAP = "_etsdm_timestep_map"  # in the `__dict__` of a shared network


def put_on(network: nn.Module, timestep_map: TimestepMap) -> None:
    """Gives a network a map of its timestep."""
    network.__dict__[MAP] = timestep_map
    network.__class__ = shared_class(type(network))


def take_off(network: nn.Module) -> None:
    """Takes a network's map off. A class that was put over the shared one since then stays, and maps nothing."""
    del network.__dict__[MAP]
    base = vars(type(network)).get(BASE)
    if base is not None:
        network.__class__ = base


def map_of(network: nn.Module) -> TimestepMap | None:
    """The map of a network's timestep, None for a network without one."""
    found: TimestepMap | None = network.__dict__.get(MAP)
    return found if hasattr(type(network), BASE) else None


@in_place_subclass
def shared_class(base: Any) -> dict[str, Any]:
    """Attributes of the subclass of a network's class."""
    base_forward = base.forward

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        timestep_map = self.__dict__.get(MAP)
        if timestep_map is not None:
            args, kwargs = timestep_map.arguments(args, kwargs)
        return base_forward(self, *args, **kwargs)

    def extra_repr(self: nn.Module) -> str:
        found = self.__dict__.get(MAP)
        shown = [base.extra_repr(self)] + ([f"condition_map={found.condition_map!r}"] if found is not None else [])
        return ", ".join(part for part in shown if part)

    forward.__doc__, forward.__qualname__, forward.__module__ = base_forward.__doc__, base_forward.__qualname__, base_forward.__module__
    # Not `functools.wraps`: accelerate unwraps `forward` along `__wrapped__` when a training ends.
    forward.__signature__ = inspect.signature(base_forward)  # type: ignore[attr-defined]
    return {"forward": forward, "extra_repr": extra_repr}
