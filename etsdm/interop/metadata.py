"""Condition maps in the metadata of safetensors files, for weights that travel as one file.

    etsdm.condition_map       {"type": "e-tsdm", "t_tilde": 100.0, "n": 5, ...}
    etsdm.timestep_argument   {"argument": ..., "unit": ..., "horizon": ...}      only where they are not those of the network's class

The values are the JSON of the keys in a diffusers config (`etsdm.interop.stored_map`). A safetensors file is the length of its header
in 8 bytes, the header in JSON, and the tensors, whose offsets count from the end of the header; so a new header leaves them as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from etsdm.condition_maps import ConditionMap
from etsdm.errors import CheckpointError
from etsdm.interop.share import timestep_sharing
from etsdm.interop.stored_map import ARGUMENT_KEY, MAP_KEY, StoredMap, parse_map
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import open_atomically

__all__ = ["condition_map_metadata", "read_condition_map", "write_condition_map"]

PREFIX = "etsdm."
ALIGNMENT = 8  # of the tensors


def condition_map_metadata(source: nn.Module | ConditionMap) -> dict[str, str]:
    """Metadata for `safetensors.torch.save_file`.

    Args:
        source: a shared network, or a map.

    Raises:
        CheckpointError: the network is not shared.
    """
    if isinstance(source, ConditionMap):
        return _metadata(source, {})
    sharing = timestep_sharing(source)
    if sharing is None:
        raise CheckpointError(f"the timesteps of this {type(source).__name__} are not shared; call share_timesteps first")
    return _metadata(sharing.condition_map, sharing.stored_argument)


def write_condition_map(path: str | Path, source: nn.Module | ConditionMap) -> None:
    """Writes a map into the metadata of an existing safetensors file, atomically; the bytes of its tensors do not change.

    Args:
        path: the file.
        source: as for `condition_map_metadata`.

    Raises:
        CheckpointError: it is no safetensors file, or the network is not shared.
        StorageError: it cannot be read or written.
    """
    path, metadata = Path(path), condition_map_metadata(source)
    _read_metadata(path)
    with storage_errors(path), path.open("rb") as old:
        header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
        kept = {key: value for key, value in header.get("__metadata__", {}).items() if not key.startswith(PREFIX)}
        header["__metadata__"] = {**kept, **metadata}
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        content += b" " * (-len(content) % ALIGNMENT)
        with open_atomically(path) as new:
            new.write(len(content).to_bytes(8, "little") + content)
            shutil.copyfileobj(old, new, 2**20)
            shutil.copymode(path, new.name)


def read_condition_map(path: str | Path) -> StoredMap | None:
    """Reads the map in the metadata of a safetensors file, None if there is none.

        stored = read_condition_map(path)
        share_timesteps(network, condition_map=stored.condition_map, **stored.argument)

    Raises:
        CheckpointError: it is no safetensors file, or what it holds is no map.
        StorageError: it cannot be read.
    """
    metadata = _read_metadata(Path(path))
    if PREFIX + MAP_KEY not in metadata:
        return None
    return parse_map(_json(metadata, PREFIX + MAP_KEY, path), _json(metadata, PREFIX + ARGUMENT_KEY, path), str(path))


def _metadata(condition_map: ConditionMap, argument: Mapping[str, Any]) -> dict[str, str]:
    values: dict[str, Any] = {MAP_KEY: condition_map.model_dump(mode="json"), **({ARGUMENT_KEY: argument} if argument else {})}
    return {PREFIX + key: json.dumps(value, sort_keys=True) for key, value in values.items()}


def _read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, whose header is verified."""
    with storage_errors(path):
        path.stat()
        if not path.is_file():
            raise CheckpointError(f"{path}: is no regular file; give a safetensors file")
        try:
            with safe_open(path, framework="pt") as file:
                return dict(file.metadata() or {})
        except SafetensorError as error:
            raise CheckpointError(f"{path}: is no safetensors file, or was cut short ({error}); copy it again") from None


def _json(metadata: Mapping[str, str], key: str, path: str | Path) -> Any:
    if key not in metadata:
        return None
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: {key} in its metadata is no JSON; write it again with write_condition_map") from None
