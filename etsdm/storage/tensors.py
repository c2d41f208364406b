"""Tensors on disk: safetensors files, verified by sha256."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from etsdm.errors import CheckpointError, IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import sha256_of

__all__ = ["read_tensors", "write_tensors"]


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Writes a safetensors file. Returns: `{file, sha256}`, by which `read_tensors` verifies it."""
    with storage_errors(path):
        path.touch()
        mode = path.stat().st_mode
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)
        # safetensors writes another file, readable by its owner alone whatever the umask, and renames it.
        path.chmod(mode)
    return {"file": path.name, "sha256": sha256_of(path)}


def read_tensors(folder: Path, record: dict[str, str], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Reads and verifies a safetensors file.

    Args:
        folder: folder of the file.
        record: the result of `write_tensors`.
        device: device of the tensors.

    Raises:
        CheckpointError: the file is missing.
        IntegrityError: its sha256 differs from the record.
    """
    path = folder / record["file"]
    if not path.is_file():
        raise CheckpointError(f"{path}: this file of the checkpoint is missing; copy the whole folder again")
    found = sha256_of(path)
    if found != record["sha256"]:
        raise IntegrityError(
            f"{path}: sha256 is {found[:12]}..., but {record['sha256'][:12]}... was written; the file was damaged, copy it again"
        )
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise IntegrityError(f"{path}: is no safetensors file ({error}); copy it again") from None
