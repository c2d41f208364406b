"""Sources of conversions: the reader of each origin, and the condition map in the metadata of a safetensors file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from etsdm.errors import CheckpointError
from etsdm.interop.conversion import Converted, Options, check_horizon
from etsdm.interop.metadata import read_condition_map
from etsdm.interop.safe_load import describe_file, is_safetensors
from etsdm.interop.stored_map import StoredMap
from etsdm.registry import suggestion

__all__ = ["ORIGINS", "read_source"]

ORIGINS = {
    "guided-diffusion": "guided_diffusion",
    "ldm": "latent_diffusion",
    "edm": "edm",
    "dit": "dit",
    "diffusers": "diffusers",
    "lucidrains": "lucidrains",
    "safetensors": "single_file",
}
WITH_OWN_MAP = ("diffusers", "safetensors")  # in their configuration or specification


def read_source(origin: str, path: Path, options: Options) -> Converted:
    """Reads a checkpoint of another program, with the condition map in its metadata unless another is given.

    Args:
        origin: one of `ORIGINS`.
        path: its file, or for diffusers its folder. Nothing in it is run.
        options: what the source does not hold.

    Raises:
        CheckpointError: the source is of another kind or architecture, lacks a field that has to be given, or its map is in another unit.
        IntegrityError: it is damaged, or holds code.
    """
    if origin not in ORIGINS:
        raise CheckpointError(f"origin: {origin!r} is unknown; {suggestion(origin, ORIGINS, 'known')}")
    read: Callable[[Path, Options], Converted] = import_module(f"etsdm.interop.origins.{ORIGINS[origin]}").read
    stored = None if origin in WITH_OWN_MAP or "condition_map" in options.model else _stored_map(path)
    if stored is None:
        return read(path, options)
    model = {**options.model, "condition_map": stored.condition_map.model_dump(mode="json")}
    found = read(path, Options(model, options.first_stage, options.weights))
    found.choices["model.condition_map"] = "from the metadata of the file"
    check_horizon(path, stored, found.spec)
    return found


def _stored_map(path: Path) -> StoredMap | None:
    return read_condition_map(path) if path.is_file() and is_safetensors(describe_file(path)) else None
