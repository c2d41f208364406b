"""Tensors on disk: safetensors files, verified by sha256."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from etsdm.errors import CheckpointError, IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import known_sha256_of, sha256_of
from etsdm.storage.records import Record

__all__ = ["TensorFile", "check_tensors", "read_tensors", "write_tensors"]


class TensorFile(Record):
    """Record of a safetensors file. Fields: file, its name; sha256 of its content."""

    file: str = Field(pattern=r"^[a-z0-9-]+\.safetensors$")
    sha256: str


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> TensorFile:
    """Writes a safetensors file. Returns: its record, by which `read_tensors` verifies it."""
    with storage_errors(path):
        path.touch()
        mode = path.stat().st_mode
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)
        # safetensors writes another file, readable by its owner alone whatever the umask, and renames it.
        path.chmod(mode)
    return TensorFile(file=path.name, sha256=sha256_of(path))


def check_tensors(folder: Path, record: TensorFile) -> Path:
    """Verifies a safetensors file without loading it.

    Args:
        folder: folder of the file.
        record: the result of `write_tensors`.

    Returns:
        The file's path.

    Raises:
        CheckpointError: the file is missing.
        IntegrityError: its sha256 differs from the record.
    """
    path = folder / record.file
    if not path.is_file():
        raise CheckpointError(f"{path}: this file of the checkpoint is missing; copy the whole folder again")
    try:
        found = known_sha256_of(path)
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read ({error.strerror}); make it readable, or copy it again") from None
    if found != record.sha256:
        raise IntegrityError(
            f"{path}: sha256 is {found[:12]}..., but {record.sha256[:12]}... was written; the file was damaged, copy it again"
        )
    return path


def read_tensors(folder: Path, record: TensorFile, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Reads and verifies a safetensors file; arguments and errors are those of `check_tensors`, and device is that of the tensors."""
    path = check_tensors(folder, record)
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise IntegrityError(f"{path}: is no safetensors file ({error}); copy it again") from None
