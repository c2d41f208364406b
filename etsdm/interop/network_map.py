"""The condition map that a network brings along: `condition_map` in its configuration, or applied to its timestep argument."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from etsdm.condition_maps import ETSDM, ConditionMap, Identity, SharedIntervals
from etsdm.denoisers.config import DenoiserConfig, condition_at
from etsdm.errors import CheckpointError, PartError
from etsdm.interop.adapters import unwrapped
from etsdm.interop.shared_class import map_of
from etsdm.interop.stored_map import MAP_KEY, StoredMap, is_in_embedding, stored_map
from etsdm.interop.time_units import HORIZON
from etsdm.interop.timestep_map import TimestepMap
from etsdm.schedules import Schedule

__all__ = ["check_applied_once", "stored_condition_map"]

GRID = 2001  # times of a continuous schedule at which two maps are compared


def stored_condition_map(network: Any | None, schedule: Schedule) -> ConditionMap | None:
    """The condition map of a network or of a scheduler, in the unit of a schedule; None if it has none.

    Raises:
        PartError: the configuration's is no condition map, or has no counterpart in that unit.
    """
    network = unwrapped(network)
    applied = _applied(network)
    if applied is not None:
        return _in_unit(applied.condition_map, schedule, applied.horizon)
    found = _stored(network)
    return None if found is None else _in_unit(found.condition_map, schedule, float(found.argument.get("horizon", HORIZON)))


def check_applied_once(network: Any, config: DenoiserConfig) -> None:
    """Checks that a denoiser's condition map and the one that is applied to the network's timestep are one.

    A shared condition is its own condition, so that applying such a map after itself changes nothing.

    Raises:
        PartError: they differ, or the map changes its own conditions.
    """
    applied = _applied(unwrapped(network))
    if applied is None:
        return
    schedule = config.schedule
    low, high = max(schedule.domain[0], 0.0 if schedule.is_discrete else schedule.t_min), schedule.domain[1]
    count = int(schedule.horizon) if schedule.is_discrete else GRID
    t = torch.linspace(low, high, count, dtype=torch.float64)
    true: Tensor = config.time_input(Identity()(t, schedule)).float()
    once = condition_at(config, t).float()
    mend = "take the map off the network, and give condition_map= here"
    if not torch.allclose(applied(true), once, rtol=1e-5, atol=1e-5):
        raise PartError(MAP_KEY, f"the network applies {applied.condition_map!r} to its timestep, another map than this denoiser's; {mend}")
    if not torch.allclose(applied(once), once, rtol=1e-5, atol=1e-5):
        raise PartError(MAP_KEY, f"the network applies {applied.condition_map!r} to its timestep, which changes its own conditions; {mend}")


class _EmbeddedMap(NamedTuple):
    """The condition map in a network's time embedding."""

    condition_map: ConditionMap
    horizon: float = HORIZON

    def __call__(self, timestep: Tensor) -> Tensor:
        return self.condition_map(timestep)


def _applied(network: Any) -> TimestepMap | _EmbeddedMap | None:
    """The map that a network applies to its timestep by itself, None for a network without one."""
    if not isinstance(network, nn.Module):
        return None
    found = _stored(network) if is_in_embedding(network) else None
    return _EmbeddedMap(found.condition_map) if found is not None else map_of(network)


def _stored(network: Any) -> StoredMap | None:
    try:
        return stored_map(network)
    except CheckpointError as error:
        raise PartError(("network", "config", MAP_KEY), f"{error}, or give condition_map=") from None


def _in_unit(found: ConditionMap, schedule: Schedule, horizon: float) -> ConditionMap:
    """A map of times up to `horizon` as a map of the schedule's times."""
    if schedule.is_discrete or schedule.time_is_noise_level or schedule.horizon == horizon or isinstance(found, Identity):
        return found
    factor = schedule.horizon / horizon
    if isinstance(found, ETSDM):
        return found.model_copy(update={"t_tilde": found.t_tilde * factor})
    if isinstance(found, SharedIntervals):
        return found.model_copy(update={"edges": tuple(edge * factor for edge in found.edges), "floor": found.floor * factor})
    message = f"{found.type_name!r} of the network is for times to {horizon:g}, and those of schedule {schedule.type_name!r} end at"
    raise PartError(MAP_KEY, f"{message} {schedule.horizon:g}; give condition_map= in that unit")
