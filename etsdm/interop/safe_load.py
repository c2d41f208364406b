"""Tensors of other programs' files, read without running code of theirs.

    safetensors              header and offsets are verified by the library
    torch files, zip         the pickle's globals are listed first, and it is loaded by `weights_only`
    *.index.json             shards of either kind, each named by the index with exactly its keys

Everything else is refused: pickles, torch files of before 1.6, TorchScript, archives with further entries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop.torch_file import read_torch_file
from etsdm.registry import cut, quoted
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import sha256_of
from etsdm.storage.regular import read_regular

__all__ = ["ZIP", "Contents", "describe_file", "is_safetensors", "read_contents", "read_json", "tensors_of"]

MAX_JSON = 64 * 2**20  # bytes of an index or a configuration
MAX_HEADER = 100 * 10**6  # bytes of a header, the limit of safetensors itself
ZIP = b"PK\x03\x04"
INDEX = ".index.json"


class Contents(NamedTuple):
    """Contents of a file.

    Fields: values, tensors by key, in a torch file possibly nested and beside other plain values; metadata of a safetensors file;
    files, the sha256 of each file that was read, by name.
    """

    values: dict[str, Any]
    metadata: dict[str, str]
    files: dict[str, str]


def read_contents(path: Path) -> Contents:
    """Reads a safetensors file, a torch file, or the shards of an index.

    Args:
        path: the file, of any name; an index ends in `.index.json`.

    Raises:
        CheckpointError: there is no such file, or it is of another kind.
        IntegrityError: it is damaged, or holds more than tensors and plain values; nothing of it was run.
        StorageError: it cannot be read.
    """
    describe_file(path)
    with storage_errors(path):
        if path.name.endswith(INDEX):
            return _read_shards(path)
        values, metadata = _read_single(path)
        return Contents(values, metadata, {path.name: sha256_of(path)})


def describe_file(path: Path) -> bytes:
    """First bytes of a regular file. Raises: CheckpointError: it is missing, a folder, or no regular file."""
    with storage_errors(path):
        if not path.exists():
            raise CheckpointError(f"{path}: does not exist; give a file of weights")
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no regular file"
            raise CheckpointError(f"{path}: is {found}; give a file of weights")
        with path.open("rb") as file:
            return file.read(16)


def is_safetensors(start: bytes) -> bool:
    """Whether the first bytes of a file are those of safetensors: a length, and a header in JSON."""
    return start[8:9] == b"{" and not start.startswith(ZIP)


def tensors_of(path: Path, values: Any, inside: str = "") -> dict[str, Tensor]:
    """A state dict: a flat mapping from keys to dense tensors.

    Args:
        path: of the file, for messages.
        values: the mapping.
        inside: its key in the file, for messages.

    Raises:
        CheckpointError: it is none, or a tensor claims more values than are stored.
    """
    place = f"{path}: {inside}: " if inside else f"{path}: "
    if not isinstance(values, dict) or not values:
        raise CheckpointError(f"{place}is no state dict, a mapping of keys to tensors; give a file of weights")
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            found = type(value).__name__
            raise CheckpointError(f"{place}{quoted(key)} holds a {found}, and a tensor is expected; give a file of weights")
        dense = str(value.layout) == "torch.strided" and not value.is_quantized and not value.is_meta
        if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{place}tensor {cut(key)!r} is sparse, quantized, or larger than what is stored; save it as a plain one")
    return values


def read_json(path: Path) -> Any:
    """Value of a JSON file of bounded size. Raises: CheckpointError: it is missing. IntegrityError: it is no JSON, or too large."""
    describe_file(path)
    with storage_errors(path):
        content = read_regular(path, MAX_JSON)
    if content is None:
        raise IntegrityError(f"{path}: has more than {MAX_JSON:,} bytes; copy it again")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: is no JSON ({error}); copy it again") from None


def _read_single(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    start = describe_file(path)
    if start.startswith(ZIP):
        return read_torch_file(path), {}
    if is_safetensors(start):
        return _read_safetensors(path, int.from_bytes(start[:8], "little"))
    if start[:1] == b"\x80":
        message = "is a pickle, or a torch file of before torch 1.6, which could run code"
        raise IntegrityError(f"{path}: {message}; load it where it was written and save it again with torch.save or as safetensors")
    raise IntegrityError(f"{path}: is no torch or safetensors file, or its start is damaged; copy it again")


def _read_safetensors(path: Path, header: int) -> tuple[dict[str, Any], dict[str, str]]:
    if header > min(MAX_HEADER, path.stat().st_size - 8):
        raise IntegrityError(f"{path}: its header has {header:,} bytes by its own count, more than it may; copy it again")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path}: is a damaged safetensors file ({error}); copy it again") from None


def _read_shards(path: Path) -> Contents:
    index = read_json(path)
    shard_of = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shard_of, dict) or not all(isinstance(name, str) for name in shard_of.values()):
        raise IntegrityError(f"{path}: weight_map: is no mapping from keys to files; copy the index again")
    files = {path.name: sha256_of(path)}
    values: dict[str, Any] = {}
    for name in sorted(set(shard_of.values())):
        if not name or "/" in name or "\\" in name or name in (".", "..") or "\0" in name:
            raise IntegrityError(f"{path}: weight_map: {quoted(name)} leads out of the index's folder; give names of files beside it")
        shard = path.with_name(name)
        held, _ = _read_single(shard)
        expected = {key for key, file in shard_of.items() if file == name}
        if odd := sorted(expected ^ set(held)):
            problem = "is missing in" if odd[0] in expected else "is not by the index in"
            raise IntegrityError(f"{path}: weight_map: key {cut(odd[0])!r} {problem} {name}; copy index and shards again")
        values |= held
        files[name] = sha256_of(shard)
    return Contents(values, {}, files)
