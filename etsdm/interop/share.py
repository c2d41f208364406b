"""E-TSDM for a network of another library: a condition map before its timestep argument.

    sharing = etsdm.share_timesteps(unet)          # t_tilde=100, n=5
    ...                                            # the training loop as it was
    sharing.remove()

Only what the network receives changes. Noise levels, loss weights and samplers are the loop's own and use the true t.
"""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from etsdm.condition_maps import ConditionMap
from etsdm.errors import CheckpointError, PartError
from etsdm.interop.given_map import check_map, check_stored, checked_horizon, given_map
from etsdm.interop.shared_class import map_of, put_on, take_off
from etsdm.interop.stored_map import forget_map, is_in_embedding, store_map, stored_map
from etsdm.interop.time_units import HORIZON, UNITS
from etsdm.interop.timestep_arguments import INNER, NOT_A_NETWORK, known_name, timestep_argument
from etsdm.interop.timestep_map import TimestepMap

__all__ = ["TimestepSharing", "share_timesteps", "timestep_sharing"]


class TimestepSharing:
    """A network whose timesteps are mapped; a context manager that takes the map off on exit.

    Attributes:
        network: the network, without modules around it.
        timestep_map: the map, in the unit of the network's argument; call it to see what the network receives.
    """

    def __init__(self, network: nn.Module, timestep_map: TimestepMap) -> None:
        self.network = network
        self.timestep_map = timestep_map

    @property
    def condition_map(self) -> ConditionMap:
        """The map, in time or noise level."""
        return self.timestep_map.condition_map

    @property
    def stored_argument(self) -> dict[str, Any]:
        """Argument, unit and horizon, if they are not those of the network's class; else nothing."""
        used = {"argument": self.timestep_map.argument, "unit": self.timestep_map.unit, "horizon": self.timestep_map.horizon}
        known = timestep_argument(self.network)
        is_known = known is not None and used == {"argument": known.name, "unit": known.unit, "horizon": HORIZON}
        return {} if is_known else used

    def remove(self) -> None:
        """Takes the map off the network and out of its config. Does nothing if it is off already."""
        if map_of(self.network) is self.timestep_map:
            take_off(self.network)
            forget_map(self.network)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"TimestepSharing({type(self.network).__name__}, {self.timestep_map!r})"


def share_timesteps(
    model: nn.Module,
    t_tilde: float | None = None,
    n: int | None = None,
    *,
    condition_map: ConditionMap | dict[str, Any] | str | None = None,
    argument: str | None = None,
    unit: str | None = None,
    horizon: float | None = None,
) -> TimestepSharing:
    """Puts a condition map before the timestep argument of a network, in place.

    The map acts on every call, also by `forward`, compiled, exported or in DDP, before the network casts anything. It goes with a
    deep copy and with pickle, and leaves weights and keys of the state dict alone. The config of a diffusers model holds it as
    `condition_map`; on a model that was loaded with that key, `share_timesteps(model)` applies it again.

    Args:
        model: the network, or a compiled, DDP, FSDP or PEFT module around it.
        t_tilde: end of the shared times; a tenth of `horizon`, 100, by default.
        n: number of sub-intervals of [0, t_tilde); 5 by default.
        condition_map: another map than E-TSDM's, as a part, a mapping or a name; in times from 0 to `horizon`, or in sigma for a
            network whose argument is a noise level.
        argument: name of the timestep argument of `forward`; needed for classes that etsdm does not know.
        unit: unit of the argument, one of `timesteps`, `unit-interval`, `reversed-timesteps`, `reversed-unit-interval`, `sigma` and
            `log-sigma`; likewise.
        horizon: time of pure noise, 1000 by default: the number of timesteps of the schedule, or the time at argument 1 (0 if
            reversed) on the unit interval.

    Returns:
        A handle with `remove()`, and a context manager.

    Raises:
        PartError: the model is shared already, is no network or of an unknown class; or an argument does not fit it.
        CheckpointError: the model's config holds another map, or one that cannot be read.
    """
    network = _network(model)
    if is_in_embedding(network):
        message = "its time embedding holds the condition map of its config already; call it with the true timesteps"
        raise PartError("model", f"found a {type(network).__name__}: {message}")
    for module in network.modules():
        if map_of(module) is not None:
            where = "this" if module is network else f"the {type(network).__name__}'s"
            raise PartError("model", f"the timesteps of {where} {type(module).__name__} are shared already; remove() that first")
    if "forward" in vars(network):
        message = f"forward of this {type(network).__name__} was replaced, as accelerate and offloading do"
        raise PartError("model", f"{message}; call share_timesteps before accelerator.prepare or enable_model_cpu_offload")
    stored = stored_map(network)
    options = {"argument": argument, "unit": unit, "horizon": horizon}
    chosen = {**(stored.argument if stored else {}), **{key: value for key, value in options.items() if value is not None}}
    name, unit = _argument(network, chosen)
    horizon = checked_horizon(chosen.get("horizon", HORIZON))
    given = given_map(t_tilde, n, condition_map, horizon)
    check_stored(network, stored, given)
    found = check_map(given or (stored.condition_map if stored else None), unit, horizon, name)
    timestep_map = TimestepMap(found, name, unit, horizon, _position(network, name))
    put_on(network, timestep_map)
    sharing = TimestepSharing(network, timestep_map)
    store_map(network, found, sharing.stored_argument)
    return sharing


def timestep_sharing(model: nn.Module) -> TimestepSharing | None:
    """The handle of a shared model, such as a deep copy of one; None for a model without a map before its timestep argument.

    Raises:
        CheckpointError: the model's config holds a condition map and the network receives true timesteps, as after diffusers'
            `from_pretrained`.
    """
    network = _network(model)
    found = map_of(network)
    if found is not None:
        return TimestepSharing(network, found)
    stored = stored_map(network)
    if stored is not None and not is_in_embedding(network):
        message = f"its config has condition_map {stored.condition_map.type_name!r}, but it receives true timesteps"
        raise CheckpointError(f"{type(network).__name__}: {message}; call etsdm.share_timesteps(model)")
    return None


def _network(model: Any) -> nn.Module:
    """The network inside modules that are put around networks."""
    if not isinstance(model, nn.Module):
        inner = "; give the pipeline's unet or transformer" if hasattr(model, "scheduler") else "; give an nn.Module"
        raise PartError("model", f"found a {type(model).__name__}{inner}")
    if isinstance(model, torch.jit.ScriptModule):
        raise PartError("model", "found a TorchScript module, whose forward is fixed; share it before torch.jit, or use share_scheduler")
    network: nn.Module = model
    while (wrapper := known_name(network, INNER)) is not None:
        network = getattr(network, INNER[wrapper])
    refused = known_name(network, NOT_A_NETWORK)
    if refused is not None:
        raise PartError("model", f"found a {type(network).__name__}: {NOT_A_NETWORK[refused]}")
    return network


def _argument(network: nn.Module, given: dict[str, Any]) -> tuple[str, str]:
    """Name and unit of the timestep argument."""
    known, cls = timestep_argument(network), type(network).__name__
    name, unit = given.get("argument") or (known and known.name), given.get("unit") or (known and known.unit)
    units = ", ".join(UNITS)
    if name is None:
        parameters = ", ".join(inspect.signature(type(network).forward).parameters)
        message = f"the timestep argument of a {cls} is not known, of forward({parameters})"
        raise PartError("argument", f"{message}; name it, for example argument='t', unit='timesteps' (units: {units})")
    if unit is None:
        message = f"the unit of {name} of a {cls} depends on its schedule" if known else f"that of {name} is not known"
        raise PartError("unit", f"{message}; give one of {units}")
    if unit not in UNITS:
        raise PartError("unit", f"found {unit!r}; give one of {units}")
    return name, unit


def _position(network: nn.Module, name: str) -> int | None:
    """Index of an argument of `forward` among the positional ones, None for keyword only.

    A `forward(*args, **kwargs)` that calls the one of its base has that one's arguments.
    """
    own = _forward_parameters(type(network))
    parameters = own
    for kind in type(network).__mro__:
        parameters = _forward_parameters(kind)
        if any(each.name == name for each in parameters) or not any(each.kind is each.VAR_POSITIONAL for each in parameters):
            break
    for i, parameter in enumerate(parameters):
        if parameter.name == name and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            return None if parameter.kind is parameter.KEYWORD_ONLY else i
    kinds = {parameter.kind for parameter in own}
    if inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        return None
    if len(kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}) == 2:  # a positional timestep would have no name
        message = f"forward of a {type(network).__name__} takes any arguments, as of a module around a network"
        raise PartError("model", f"{message}; give the network inside")
    names = ", ".join(str(each.replace(annotation=each.empty, default=each.empty)) for each in own)
    raise PartError("argument", f"forward has no {name!r}; give one of {names}")


def _forward_parameters(kind: type) -> list[inspect.Parameter]:
    """Parameters of a class's `forward` beside self; none without one."""
    return list(inspect.signature(kind.forward).parameters.values())[1:] if hasattr(kind, "forward") else []
