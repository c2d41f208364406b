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
from etsdm.interop.scheduler_units import check_unit, scheduler_horizon, scheduler_unit
from etsdm.interop.stored_map import forget_map, store_map, stored_map
from etsdm.interop.subclass import BASE, in_place_subclass
from etsdm.interop.time_units import HORIZON
from etsdm.interop.timestep_map import TimestepMap

__all__ = ["SchedulerSharing", "share_scheduler", "shared_scheduler_class"]

MAP = "_etsdm_timestep_map"
DEPTH = "_etsdm_depth"  # of calls of the scheduler's methods within each other, where `timesteps` are the true ones
INDEX = "_etsdm_index"  # of the next step in `timesteps`; None before the first, OUTSIDE before `set_timesteps` and after the last
OUTSIDE = -1
NEIGHBOURS = {"prev_timestep": 1, "timestep_back": -1}  # arguments of `step` beside the timestep: steps from it


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
        t_tilde: end of the shared times; a tenth of the training timesteps, 100 of 1000, by default.
        n: number of sub-intervals of [0, t_tilde); 5 by default.
        condition_map: another map, as for `share_timesteps`, in times from 0 to the number of training timesteps.
        unit: unit of its timesteps, as for `share_timesteps`; needed for classes that etsdm does not know.

    Raises:
        PartError: it is no scheduler, is shared already or cannot be, is of an unknown class, or an argument does not fit.
        CheckpointError: its config holds another map, or one that cannot be read.
    """
    name = type(scheduler).__name__
    if not (hasattr(scheduler, "set_timesteps") and hasattr(scheduler, "step") and hasattr(scheduler, "config")):
        raise PartError("scheduler", f"found a {name}; give a scheduler of diffusers, such as pipeline.scheduler")
    if hasattr(type(scheduler), BASE):
        raise PartError("scheduler", f"the timesteps of this {name} are shared already; remove() that first")
    stored, own = stored_map(scheduler), scheduler_unit(scheduler)
    unit = check_unit(unit or (stored.argument.get("unit") if stored else None) or own, scheduler)
    horizon = scheduler_horizon(scheduler, unit)
    given = given_map(t_tilde, n, condition_map, horizon)
    check_stored(scheduler, stored, given)
    found = check_map(given or (stored.condition_map if stored else None), unit, horizon, "timesteps")
    timestep_map = TimestepMap(found, "timesteps", unit, horizon)
    vars(scheduler).update({MAP: timestep_map, DEPTH: 0, INDEX: OUTSIDE})
    scheduler.__class__ = shared_scheduler_class(type(scheduler))
    store_map(scheduler, found, {**({} if unit == own else {"unit": unit}), **({} if horizon == HORIZON else {"horizon": horizon})})
    return SchedulerSharing(scheduler, timestep_map)


@in_place_subclass
def shared_scheduler_class(base: Any) -> dict[str, Any]:
    """Attributes of the subclass of a scheduler's class: `timesteps`, and every public method, which sees the true ones."""
    methods = {name: method for name, method in inspect.getmembers(base, inspect.isfunction) if not name.startswith("_")}
    return {"timesteps": property(_timesteps, _set_timesteps), **{name: _with_true_times(name, method) for name, method in methods.items()}}


def _timesteps(self: Any) -> Any:
    true = self.__dict__.get("timesteps")
    return true if self.__dict__[DEPTH] or true is None else self.__dict__[MAP](torch.as_tensor(true))


def _set_timesteps(self: Any, value: Any) -> None:
    """Sets the true timesteps. Of mapped ones from outside, such as a slice or a copy of another dtype, the true ones are taken."""
    true = self.__dict__.get("timesteps")
    if not self.__dict__[DEPTH] and isinstance(value, Tensor) and isinstance(true, Tensor) and 0 < len(value) <= len(true):
        mapped, n = self.timesteps, len(value)
        for part in (slice(len(true) - n, None), slice(n)):  # the last ones, or the first
            if torch.equal(value.to(mapped), mapped[part]):
                value = true[part].to(value)
                break
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
                bound.arguments[argument], at = _true_times(self, given, in_loop)
            for key in NEIGHBOURS.keys() & bound.arguments.keys():
                bound.arguments[key] = _true_neighbour(self, bound.arguments[key], key, at)
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


def _true_times(scheduler: Any, given: Any, in_loop: bool) -> tuple[Any, int | None]:
    """The true times of mapped ones, in their shape and type, and the index of the step that they belong to.

    Raises:
        PartError: in a denoising loop, a time is none of the scheduler's, or shared by steps of which none is known to be the present.
    """
    if scheduler.__dict__.get("timesteps") is None:
        return given, None
    true = torch.as_tensor(scheduler.__dict__["timesteps"])
    values = torch.as_tensor(given).cpu()
    mapped = torch.as_tensor(scheduler.timesteps).cpu()
    if values.is_floating_point() and isinstance(given, Tensor):
        mapped = mapped.to(values.dtype)  # some pipelines cast the time
    found, at = [], None
    if not in_loop and len(values.unique()) > 1:  # of a training batch, between the steps of a preview
        return given, None
    now = None if scheduler.__dict__[INDEX] == OUTSIDE else scheduler.__dict__[INDEX]
    for value in values.flatten().tolist():
        at = _index(now, (mapped == value).nonzero().flatten().tolist())
        if at is None and in_loop:
            raise PartError("timestep", f"found {value:g}, none of scheduler.timesteps; pass one of these, which are the shared ones")
        found.append(value if at is None else true[at].item())
    return _like(given, found, true), at


def _true_neighbour(scheduler: Any, given: Any, name: str, at: int | None) -> Any:
    """The true time of a mapped one next to that of step `at`. Raises: PartError if it is another time."""
    if given is None or at is None:
        return given
    true, mapped, i = torch.as_tensor(scheduler.__dict__["timesteps"]), torch.as_tensor(scheduler.timesteps), at + NEIGHBOURS[name]
    if not (0 <= i < len(true) and mapped[i].item() == float(given)):
        raise PartError(name, f"found {float(given):g}, which is not next to the timestep in scheduler.timesteps; pass the one that is")
    return _like(given, [true[i].item()], true)


def _like(given: Any, found: list[Any], true: Tensor) -> Any:
    """True times in the shape and type of the given ones."""
    if isinstance(given, Tensor):
        dtype = true.dtype if true.is_floating_point() or not given.is_floating_point() else given.dtype
        return torch.tensor(found, dtype=dtype, device=given.device).reshape(given.shape)
    return type(given)(found[0])


def _index(now: int | None, candidates: list[int]) -> int | None:
    """Index of the step at a mapped time: the first of those that share it from the present step on."""
    if now is not None:
        return next((i for i in candidates if i >= now), candidates[0] if candidates else None)
    if len(candidates) < 2 or candidates[0] == 0:
        return candidates[0] if candidates else None
    message = f"steps {candidates[0]} to {candidates[-1]} share this timestep, and which one is the first is not known"
    raise PartError("timestep", f"{message}; call scheduler.set_begin_index(i) after set_timesteps, or use share_timesteps on the network")
