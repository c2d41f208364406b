"""The condition map of a call: given, stored in a config, or the paper's."""

from __future__ import annotations

from typing import Any

from etsdm.condition_maps import Compose, ConditionMap, Intervals
from etsdm.errors import CheckpointError, PartError, RegistryError
from etsdm.interop.stored_map import StoredMap
from etsdm.interop.time_units import UNITS
from etsdm.registry import condition_maps

__all__ = ["check_map", "check_stored", "given_map"]

T_TILDE, N = 100.0, 5  # the paper's


def given_map(t_tilde: float | None, n: int | None, condition_map: ConditionMap | dict[str, Any] | str | None) -> ConditionMap | None:
    """The map of a caller's arguments, None if all are None. Raises: PartError for both kinds, or an unknown or invalid map."""
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


def check_stored(owner: Any, stored: StoredMap | None, given: ConditionMap | None) -> None:
    """Raises CheckpointError if a config holds another map than the given one. Args: owner: whose config."""
    if stored is not None and given is not None and given != stored.condition_map:
        message = f"its config has condition_map {stored.condition_map!r}, with which it was trained, and {given!r} was given"
        raise CheckpointError(f"{type(owner).__name__}: {message}; leave out the arguments, or take the key out of the config")


def check_map(found: ConditionMap | None, unit: str, horizon: float, argument: str) -> ConditionMap:
    """The map, E-TSDM's for None, if it suits an argument.

    Raises:
        PartError: it needs a schedule, changes noise levels, reaches beyond the horizon, or has no default for a noise level.
    """
    if not horizon > 0:
        raise PartError("horizon", f"found {horizon:g}; give the time of pure noise, such as 1000")
    if found is None:
        if UNITS[unit].is_noise_level:
            message = f"{argument} is a noise level, {UNITS[unit].formula}, for which t_tilde=100 timesteps means nothing"
            raise PartError("condition_map", f"{message}; give a map of sigma, such as 'edm-vp-equivalent'")
        found = condition_maps.create("e-tsdm", t_tilde=T_TILDE, n=N)
    for part in found.maps if isinstance(found, Compose) else (found,):
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
    return found
