"""The condition map of a call: given, stored in a config, or the paper's."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch

from etsdm.condition_maps import ETSDM, Compose, ConditionMap, Intervals
from etsdm.errors import CheckpointError, PartError, RegistryError
from etsdm.interop.stored_map import StoredMap
from etsdm.interop.time_units import UNITS
from etsdm.registry import condition_maps

__all__ = ["check_map", "check_stored", "checked_horizon", "given_map"]

SHARE, N = 10, 5  # horizon / t_tilde and n of the paper
SMALLEST = 1e-6  # noise level, for the condition next to 0


def checked_horizon(horizon: Any) -> float:
    """The time of pure noise. Raises: PartError unless it is a positive number."""
    if not isinstance(horizon, Real) or isinstance(horizon, bool) or not 0 < float(horizon) < math.inf:
        raise PartError("horizon", f"found {horizon!r}; give the time of pure noise, such as 1000")
    return float(horizon)


def given_map(
    t_tilde: float | None, n: int | None, condition_map: ConditionMap | dict[str, Any] | str | None, horizon: float
) -> ConditionMap | None:
    """The map of a caller's arguments, None if all are None. Raises: PartError for both kinds, or an unknown or invalid map."""
    if condition_map is None and t_tilde is None and n is None:
        return None
    if condition_map is not None and (t_tilde is not None or n is not None):
        raise PartError("condition_map", "found beside t_tilde or n, which are those of e-tsdm; give one or the other")
    if isinstance(condition_map, ConditionMap):
        return condition_map
    try:
        found: ConditionMap = _paper_map(horizon, t_tilde, n) if condition_map is None else condition_maps.make(condition_map)
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
        PartError: it needs a schedule, changes noise levels, reaches beyond the horizon, or has conditions that are no noise level
            where the argument is one.
    """
    if UNITS[unit].is_noise_level:
        _check_of_noise_levels(found, unit, argument)
    found = found or _paper_map(horizon)
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


def _paper_map(horizon: float, t_tilde: float | None = None, n: int | None = None) -> ConditionMap:
    """E-TSDM with the paper's fields where none are given."""
    fields = {"t_tilde": horizon / SHARE if t_tilde is None else t_tilde, "n": N if n is None else n}
    found: ConditionMap = condition_maps.create("e-tsdm", **fields)
    return found


def _check_of_noise_levels(found: ConditionMap | None, unit: str, argument: str) -> None:
    """Raises PartError for a map of timesteps, and for one with a condition of 0, which has no logarithm."""
    mend = "give a map of sigma, such as 'edm-vp-equivalent'"
    if found is None or isinstance(found, ETSDM):
        message = f"{argument} is a noise level, {UNITS[unit].formula}, and t_tilde is a timestep"
        raise PartError("condition_map", f"{message}; {mend}")
    if not found.is_remap and not found(torch.tensor([SMALLEST])) > 0:
        raise PartError("condition_map", f"gives the smallest noise levels the condition 0, which has no logarithm; {mend}")
