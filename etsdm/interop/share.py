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

from torch import nn

from etsdm.condition_maps import ETSDM, Compose, ConditionMap, Intervals
from etsdm.errors import CheckpointError, PartError, RegistryError
from etsdm.interop.shared_class import map_of, put_on, take_off
from etsdm.interop.stored_map import StoredMap, forget_map, store_map, stored_map
from etsdm.interop.time_units import UNITS
from etsdm.interop.timestep_arguments import INNER, NOT_A_NETWORK, known_name, timestep_argument
from etsdm.interop.timestep_map import TimestepMap
from etsdm.registry import condition_maps

__all__ = ["TimestepSharing", "share_timesteps", "timestep_sharing"]

T_TILDE, N, HORIZON = 100.0, 5, 1000.0  # the paper's


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
        t_tilde: end of the shared times, of `horizon`; 100 by default.
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
    if map_of(network) is not None:
        raise PartError("model", f"the timesteps of this {type(network).__name__} are shared already; remove() that first")
    if "forward" in vars(network):
        message = f"forward of this {type(network).__name__} was replaced, as accelerate and offloading do"
        raise PartError("model", f"{message}; call share_timesteps before accelerator.prepare or enable_model_cpu_offload")
    stored = stored_map(network)
    given = _given_map(t_tilde, n, condition_map)
    _check_stored(network, stored, given)
    options = {"argument": argument, "unit": unit, "horizon": horizon}
    chosen = {**(stored.argument if stored else {}), **{key: value for key, value in options.items() if value is not None}}
    name, unit, is_known = _argument(network, chosen)
    horizon = float(chosen.get("horizon", HORIZON))
    found = given or (stored.condition_map if stored else None)
    if found is None:
        if UNITS[unit].is_noise_level:
            message = f"{name} is a noise level, {UNITS[unit].formula}, for which t_tilde=100 timesteps means nothing"
            raise PartError("condition_map", f"{message}; give a map of sigma, such as 'edm-vp-equivalent'")
        found = ETSDM(t_tilde=T_TILDE, n=N)
    _check_map(found, unit, horizon)
    timestep_map = TimestepMap(found, name, unit, horizon, _position(network, name))
    put_on(network, timestep_map)
    store_map(network, found, {} if is_known else {"argument": name, "unit": unit, "horizon": horizon})
    return TimestepSharing(network, timestep_map)


def timestep_sharing(model: nn.Module) -> TimestepSharing | None:
    """The handle of a shared model, such as a deep copy of one; None for a model with true timesteps.

    Raises:
        CheckpointError: the model's config holds a condition map and the network receives true timesteps, as after diffusers'
            `from_pretrained`.
    """
    network = _network(model)
    found = map_of(network)
    if found is not None:
        return TimestepSharing(network, found)
    stored = stored_map(network)
    if stored is not None:
        message = f"its config has condition_map {stored.condition_map.type_name!r}, but it receives true timesteps"
        raise CheckpointError(f"{type(network).__name__}: {message}; call etsdm.share_timesteps(model)")
    return None


def _network(model: Any) -> nn.Module:
    """The network inside modules that are put around networks."""
    if not isinstance(model, nn.Module):
        inner = "; give the pipeline's unet or transformer" if hasattr(model, "scheduler") else "; give an nn.Module"
        raise PartError("model", f"found a {type(model).__name__}{inner}")
    network: nn.Module = model
    while (wrapper := known_name(network, INNER)) is not None:
        network = getattr(network, INNER[wrapper])
    refused = known_name(network, NOT_A_NETWORK)
    if refused is not None:
        raise PartError("model", f"found a {type(network).__name__}: {NOT_A_NETWORK[refused]}")
    return network


def _given_map(t_tilde: float | None, n: int | None, condition_map: Any) -> ConditionMap | None:
    if condition_map is None and t_tilde is None and n is None:
        return None
    found: ConditionMap
    if condition_map is None:
        found = condition_maps.create("e-tsdm", t_tilde=T_TILDE if t_tilde is None else t_tilde, n=N if n is None else n)
        return found
    if t_tilde is not None or n is not None:
        raise PartError("condition_map", "found beside t_tilde or n, which are those of e-tsdm; give one or the other")
    if isinstance(condition_map, ConditionMap):
        return condition_map
    try:
        found = condition_maps.make(condition_map)
    except RegistryError as error:
        raise PartError("condition_map", str(error)) from None
    return found


def _check_stored(network: nn.Module, stored: StoredMap | None, given: ConditionMap | None) -> None:
    if stored is not None and given is not None and given != stored.condition_map:
        message = f"its config has condition_map {stored.condition_map!r}, with which it was trained, and {given!r} was given"
        raise CheckpointError(f"{type(network).__name__}: {message}; leave out the arguments, or take the key out of the config")


def _argument(network: nn.Module, given: dict[str, Any]) -> tuple[str, str, bool]:
    """Name and unit of the timestep argument, and whether these and the horizon are those of the class."""
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
    return name, unit, known == (name, unit) and given.get("horizon", HORIZON) == HORIZON


def _position(network: nn.Module, name: str) -> int | None:
    """Index of an argument of `forward` among the positional ones, None for keyword only."""
    parameters = list(inspect.signature(type(network).forward).parameters.values())[1:]
    for i, parameter in enumerate(parameters):
        if parameter.name == name and parameter.kind is not parameter.VAR_KEYWORD:
            return None if parameter.kind is parameter.KEYWORD_ONLY else i
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    raise PartError("argument", f"forward has no {name!r}; give one of {', '.join(parameter.name for parameter in parameters)}")


def _check_map(condition_map: ConditionMap, unit: str, horizon: float) -> None:
    if not horizon > 0:
        raise PartError("horizon", f"found {horizon:g}; give the time of pure noise, such as 1000")
    for part in condition_map.maps if isinstance(condition_map, Compose) else (condition_map,):
        if part.is_remap:
            message = f"{part.type_name!r} needs alpha and sigma of a schedule, which a network does not have"
            raise PartError("condition_map", f"{message}; use etsdm.wrap with a schedule, or give a map that shares times")
        if not isinstance(part, Intervals):
            continue
        if part.shares_noise_level:
            message = "share 'both' also changes the noise levels of training, which are the loop's own"
            raise PartError("condition_map.share", f"{message}; leave it out")
        if not UNITS[unit].is_noise_level:
            for problem in part.out_of_range(0.0, horizon, "the first time", "the horizon"):
                raise PartError(("condition_map", *problem.location), problem.message)
