"""A condition map in the scheduler of a diffusers pipeline, for networks that cannot be changed.

    sharing = share_scheduler(pipeline.scheduler)

`scheduler.timesteps` then holds f(t), which the pipeline passes to its network in whatever unit and direction this takes. The
scheduler's own methods find the true t of a mapped one by the step that the pipeline is at, and compute with it.

For a network of PyTorch `share_timesteps` is the better place: it also acts in training, and its config goes with the weights. Put
the map in one of the two only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.errors import PartError
from etsdm.interop.given_map import check_map, check_stored, given_map
from etsdm.interop.stored_map import forget_map, store_map, stored_map
from etsdm.interop.subclass import BASE, in_place_subclass
from etsdm.interop.time_units import UNITS
from etsdm.interop.timestep_map import TimestepMap

__all__ = ["SchedulerSharing", "share_scheduler", "shared_scheduler_class"]

MAP = "_etsdm_timestep_map"
DEPTH = "_etsdm_depth"  # of calls of the scheduler's methods within each other, where `timesteps` are the true ones
INDEX = "_etsdm_index"  # of the next step in `timesteps`; None before the first, OUTSIDE before `set_timesteps` and after the last
OUTSIDE = -1
HORIZON = 1000.0


class SchedulerSharing:
    """A scheduler whose `timesteps` are mapped; a context manager that takes the map off on exit.

    Attributes:
        scheduler: the scheduler.
        timestep_map: the map, in the unit of its timesteps.
    """

    def __init__(self, scheduler: Any, timestep_map: TimestepMap) -> None:
        self.scheduler = scheduler
        self.timestep_map = timestep_map

    def remove(self) -> None:
        """Takes the map off the scheduler and out of its config. Does nothing if it is off already."""
        state = vars(self.scheduler)
        if state.get(MAP) is self.timestep_map:
            for key in (MAP, DEPTH, INDEX):
                del state[key]
            self.scheduler.__class__ = getattr(type(self.scheduler), BASE)
            forget_map(self.scheduler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.remove()


def share_scheduler(
    scheduler: Any,
    t_tilde: float | None = None,
    n: int | None = None,
    *,
    condition_map: ConditionMap | dict[str, Any] | str | None = None,
    unit: str | None = None,
) -> SchedulerSharing:
    """Makes a scheduler give a pipeline mapped timesteps, in place, and compute with the true ones.

    Its config holds the map as `condition_map`, which `save_pretrained` keeps; on a scheduler that was loaded with that key,
    `share_scheduler(scheduler)` applies it again. `add_noise` and `get_velocity` of a training loop, which draws its own t, do not change.

    Args:
        scheduler: a scheduler of diffusers.
        t_tilde: end of the shared times; 100 by default.
        n: number of sub-intervals of [0, t_tilde); 5 by default.
        condition_map: another map, as for `share_timesteps`, in times from 0 to 1000.
        unit: unit of its timesteps; by default that of its config.

    Raises:
        PartError: it is no scheduler, is shared already, or an argument does not fit.
        CheckpointError: its config holds another map, or one that cannot be read.
    """
    name = type(scheduler).__name__
    if not (hasattr(scheduler, "timesteps") and hasattr(scheduler, "step") and hasattr(scheduler, "config")):
        raise PartError("scheduler", f"found a {name}; give a scheduler of diffusers, such as pipeline.scheduler")
    if hasattr(type(scheduler), BASE):
        raise PartError("scheduler", f"the timesteps of this {name} are shared already; remove() that first")
    stored, given = stored_map(scheduler), given_map(t_tilde, n, condition_map)
    check_stored(scheduler, stored, given)
    unit = unit or (stored.argument.get("unit") if stored else None) or _unit(scheduler)
    if unit not in UNITS:
        raise PartError("unit", f"found {unit!r}; give one of {', '.join(UNITS)}")
    found = check_map(given or (stored.condition_map if stored else None), unit, HORIZON, "timesteps")
    timestep_map = TimestepMap(found, "timesteps", unit, HORIZON)
    vars(scheduler).update({MAP: timestep_map, DEPTH: 0, INDEX: OUTSIDE})
    scheduler.__class__ = shared_scheduler_class(type(scheduler))
    store_map(scheduler, found, {} if unit == _unit(scheduler) else {"unit": unit})
    return SchedulerSharing(scheduler, timestep_map)


def _unit(scheduler: Any) -> str:
    """Unit of a scheduler's timesteps, from its config."""
    config = scheduler.config
    if type(scheduler).__name__.startswith("EDM") or config.get("timestep_type") == "continuous":
        return "log-sigma"
    steps = "unit-interval" if config.get("num_train_timesteps") == 1 else "timesteps"
    return f"reversed-{steps}" if config.get("invert_sigmas") else steps


@in_place_subclass
def shared_scheduler_class(base: Any) -> dict[str, Any]:
    """Attributes of the subclass of a scheduler's class: `timesteps`, and every public method, which sees the true ones."""
    methods = {name: method for name, method in inspect.getmembers(base, inspect.isfunction) if not name.startswith("_")}
    return {"timesteps": property(_timesteps, _set_timesteps), **{name: _with_true_times(name, method) for name, method in methods.items()}}


def _timesteps(self: Any) -> Any:
    true = self.__dict__["timesteps"]
    return true if self.__dict__[DEPTH] or true is None else self.__dict__[MAP](torch.as_tensor(true))


def _set_timesteps(self: Any, value: Any) -> None:
    """Sets the true timesteps. Of mapped ones from outside, such as a slice or a copy of another dtype, the true ones are taken."""
    true = self.__dict__.get("timesteps")
    if not self.__dict__[DEPTH] and isinstance(value, Tensor) and isinstance(true, Tensor) and 0 < len(value) <= len(true):
        tail = self.timesteps[len(true) - len(value) :]
        if torch.equal(value.to(tail), tail):
            value = true[len(true) - len(value) :].to(value)
    self.__dict__["timesteps"] = value


def _with_true_times(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    parameters = inspect.signature(method).parameters
    argument = next((key for key in ("timestep", "timesteps") if key in parameters and name != "set_timesteps"), None)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = self.__dict__
        in_loop = name in ("step", "scale_model_input")
        # Outside a denoising loop a time is the true one of a training loop.
        if not state[DEPTH] and argument is not None and (in_loop or state[INDEX] != OUTSIDE):
            bound = inspect.signature(method).bind(self, *args, **kwargs)
            given, at = bound.arguments.get(argument), None
            if given is not None:
                bound.arguments[argument], at = _true_times(self, given)
            args, kwargs = bound.args[1:], bound.kwargs
            if at is not None and in_loop:
                state[INDEX] = at + (name == "step")
        if name == "set_timesteps":
            state[INDEX] = None
        state[DEPTH] += 1
        try:
            result = method(self, *args, **kwargs)
        finally:
            state[DEPTH] -= 1
        if name == "set_begin_index":
            state[INDEX] = self.begin_index
        elif name == "step" and state[INDEX] == len(state["timesteps"]):
            state[INDEX] = OUTSIDE
        return result

    return call


def _true_times(scheduler: Any, given: Any) -> tuple[Any, int | None]:
    """The true times of mapped ones, in their shape and type, and the index of the step that they belong to."""
    if scheduler.__dict__["timesteps"] is None:
        return given, None
    mapped = torch.as_tensor(scheduler.timesteps).to("cpu", torch.float64)
    true = torch.as_tensor(scheduler.__dict__["timesteps"])
    values = torch.as_tensor(given).to("cpu", torch.float64)
    found, at = [], None
    now = None if scheduler.__dict__[INDEX] == OUTSIDE else scheduler.__dict__[INDEX]
    for value in values.flatten().tolist():
        at = _index(now, (mapped == value).nonzero().flatten().tolist())
        found.append(value if at is None else true[at].item())
    if isinstance(given, Tensor):
        dtype = true.dtype if true.is_floating_point() or not given.is_floating_point() else given.dtype
        return torch.tensor(found, dtype=dtype, device=given.device).reshape(given.shape), at
    return type(given)(found[0]), at


def _index(now: int | None, candidates: list[int]) -> int | None:
    """Index of the step at a mapped time: the first of those that share it from the present step on."""
    if now is not None:
        return next((i for i in candidates if i >= now), candidates[0] if candidates else None)
    if len(candidates) < 2 or candidates[0] == 0:
        return candidates[0] if candidates else None
    message = f"steps {candidates[0]} to {candidates[-1]} share this timestep, and which one is the first is not known"
    raise PartError("timestep", f"{message}; call scheduler.set_begin_index(i) after set_timesteps, or use share_timesteps on the network")
