"""Pickled networks of NVlabs/edm, read in a process of its own by `pickle_reader`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from etsdm.errors import IntegrityError
from etsdm.interop.safe_load import describe_file
from etsdm.registry import cut
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import sha256_of

__all__ = ["PickledModule", "PickledNetwork", "read_pickled_network"]

TIMEOUT_S = 900
READER = Path(__file__).with_name("pickle_reader.py")


class PickledModule(NamedTuple):
    """A module in a pickle. Fields: name of its class; attributes, the plain ones; arguments, by name, with which it was made."""

    name: str
    attributes: dict[str, Any]
    arguments: dict[str, Any]


class PickledNetwork(NamedTuple):
    """A network in a pickle. Fields: precond, the preconditioning; model, the network inside; tensors, the state dict; keys beside
    `ema` in the file; files, sha256 of the file by name."""

    precond: PickledModule
    model: PickledModule
    tensors: dict[str, Tensor]
    keys: list[str]
    files: dict[str, str]


def read_pickled_network(path: Path) -> PickledNetwork:
    """Reads the network under the key `ema` of a pickle; no code of the pickle is run.

    Raises:
        CheckpointError: there is no such file.
        IntegrityError: it asks for a name that is not allowed, is damaged, or takes more memory or time than it may.
        StorageError: it cannot be read.
    """
    describe_file(path)
    with storage_errors(path), tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tensors.safetensors"
        # -P: no module of the working directory, or of this one, stands in for one of Python.
        command = [sys.executable, "-P", str(READER), str(path.resolve()), str(out)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise IntegrityError(f"{path}: takes longer than {TIMEOUT_S} s to read, which no file of EDM does; copy it again") from None
        try:
            found = json.loads(done.stdout)
        except ValueError:
            message = f"reading it ended with code {done.returncode}, as it does at a limit of memory or time"
            raise IntegrityError(f"{path}: {message}; copy it again ({cut(done.stderr.decode(errors='replace')[-200:])})") from None
        if "error" in found:
            raise IntegrityError(f"{path}: {found['error']}; give a snapshot of NVlabs/edm, network-snapshot-*.pkl")
        tensors = load_file(out)
    precond, model = (PickledModule(*(found[name][key] for key in ("class", "attributes", "arguments"))) for name in ("precond", "model"))
    return PickledNetwork(precond, model, tensors, found["keys"], {path.name: sha256_of(path)})
