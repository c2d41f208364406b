"""Condition maps as JSON in the config of a model or scheduler of diffusers.

    condition_map       {"type": "e-tsdm", "t_tilde": 100.0, "n": 5, ...}    the map, as in a recipe
    timestep_argument   {"argument": ..., "unit": ..., "horizon": ...}       only where they are not those of the network's class

A network that `etsdm export --to diffusers` wrote needs no map before its timestep: its time embedding is a table, "learned", whose row
t is that of f(t) (`is_in_embedding`).

`save_pretrained` writes the config and `from_pretrained` reads it, with a warning of diffusers that it does not expect these keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from etsdm.condition_maps import ConditionMap
from etsdm.errors import CheckpointError, RegistryError
from etsdm.registry import condition_maps

__all__ = ["ARGUMENT_KEY", "MAP_KEY", "StoredMap", "forget_map", "is_in_embedding", "parse_map", "store_map", "stored_map"]

MAP_KEY = "condition_map"
ARGUMENT_KEY = "timestep_argument"


class StoredMap(NamedTuple):
    """A stored condition map. Fields: the map; argument, unit and horizon of the timestep argument, as far as they are stored."""

    condition_map: ConditionMap
    argument: Mapping[str, Any]


def parse_map(value: Any, argument: Any, where: str) -> StoredMap:
    """Reads the stored JSON values. Args: where: the file or config, for messages. Raises: CheckpointError if they are no map."""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where}: {MAP_KEY} is a {type(value).__name__}, a mapping with a type is expected; remove the key")
    try:
        found = condition_maps.make(dict(value))
    except RegistryError as error:
        raise CheckpointError(f"{where}: {MAP_KEY}: {error}") from None
    if argument is not None and not _is_argument(argument):
        raise CheckpointError(f"{where}: {ARGUMENT_KEY} is not a mapping of argument, unit and horizon; remove the key")
    return StoredMap(found, dict(argument or {}))


def _is_argument(value: Any) -> bool:
    if not (isinstance(value, Mapping) and set(value) <= {"argument", "unit", "horizon"}):
        return False
    horizon = value.get("horizon", 1.0)
    names = [value[key] for key in ("argument", "unit") if key in value]
    return all(isinstance(name, str) for name in names) and isinstance(horizon, (int, float)) and horizon > 0


def stored_map(network: Any) -> StoredMap | None:
    """The map in a network's config, None without one. Raises: CheckpointError if the config's value is no map."""
    config = getattr(network, "config", None)
    if not isinstance(config, Mapping) or config.get(MAP_KEY) is None:
        return None
    return parse_map(config[MAP_KEY], config.get(ARGUMENT_KEY), f"config of {type(network).__name__}")


def is_in_embedding(network: Any) -> bool:
    """Whether the map in a network's config is a part of its time embedding."""
    config = getattr(network, "config", None)
    return isinstance(config, Mapping) and config.get(MAP_KEY) is not None and config.get("time_embedding_type") == "learned"


def store_map(network: Any, condition_map: ConditionMap, argument: Mapping[str, Any]) -> None:
    """Puts a map into a network's config, if it is one of diffusers."""
    register = getattr(network, "register_to_config", None)
    if register is not None:
        register(**{MAP_KEY: condition_map.model_dump(mode="json"), **({ARGUMENT_KEY: dict(argument)} if argument else {})})


def forget_map(network: Any) -> None:
    """Takes the map out of a network's config."""
    config = getattr(network, "_internal_dict", None)  # `config` without a setter; `register_to_config` only adds keys
    if isinstance(config, Mapping):
        kept = {key: value for key, value in config.items() if key not in (MAP_KEY, ARGUMENT_KEY)}
        frozen: Any = type(config)
        network._internal_dict = frozen(kept)
