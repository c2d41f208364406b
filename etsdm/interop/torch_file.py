"""Torch files of other programs: zip archives whose pickle is inspected before it is loaded by `weights_only`."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from etsdm.errors import IntegrityError
from etsdm.registry import cut

__all__ = ["read_torch_file"]

MAX_PICKLE = 64 * 2**20  # bytes; that of a thousand tensors has a few hundred thousand
RESAVE = "load it where it was written and save its state dict again with torch.save or as safetensors"
_ENTRY = re.compile(r"data\.pkl|data/\d+|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment")
# Classes that trainers leave beside the weights. An empty object takes their place; the class itself is not imported.
LEFT_EMPTY = (
    "argparse.Namespace",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
)


class _Empty:
    """Stands for an object of a trainer, without its contents."""

    def __new__(cls, *args: Any) -> _Empty:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_torch_file(path: Path) -> dict[str, Any]:
    """Reads a torch file, its tensors mapped into memory.

    Raises:
        IntegrityError: it is damaged, TorchScript, or holds more than tensors and plain values; nothing of it was run.
    """
    _check_entries(path)
    with torch.serialization.safe_globals([(_Empty, name) for name in LEFT_EMPTY]):
        try:
            foreign = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
            if foreign:
                raise IntegrityError(f"{path}: its pickle asks for {cut(', '.join(foreign), 200)}, which is no tensor; {RESAVE}")
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except IntegrityError:
            raise
        except UnpicklingError as error:
            raise IntegrityError(f"{path}: its pickle holds more than tensors ({_first_line(error)}); {RESAVE}") from None
        except Exception as error:  # torch raises errors of any kind on damaged archives
            raise IntegrityError(f"{path}: is a damaged torch file ({_first_line(error)}); copy it again") from None
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: holds a {type(values).__name__}, and a mapping is expected; {RESAVE}")
    return dict(values)


def _check_entries(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise IntegrityError(f"{path}: is truncated or damaged, its archive cannot be read ({error}); copy it again") from None
    names = [entry.filename for entry in entries]
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise IntegrityError(f"{path}: is no torch file, an archive with one data.pkl is expected; give a file from torch.save")
    inner = [name.removeprefix(roots[0]) for name in names]
    if "constants.pkl" in inner:
        raise IntegrityError(f"{path}: is a TorchScript program, not a file of weights; {RESAVE}")
    odd = [name for name, short in zip(names, inner, strict=True) if not _ENTRY.fullmatch(short)]
    odd += [name for name in set(names) if names.count(name) > 1]
    if odd:
        raise IntegrityError(f"{path}: its archive has an entry {cut(odd[0])!r}, which torch.save does not write; {RESAVE}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise IntegrityError(f"{path}: its entry {entry.filename!r} is compressed, which torch.save does not do; {RESAVE}")
        if entry.filename.endswith("/data.pkl") and entry.file_size > MAX_PICKLE:
            raise IntegrityError(f"{path}: its pickle has {entry.file_size:,} bytes, more than {MAX_PICKLE:,}; {RESAVE}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return cut(lines[0], 200) if lines else type(error).__name__
