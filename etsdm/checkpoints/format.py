"""Checkpoint format of a denoiser: a folder with its spec in JSON and its weights in safetensors.

    denoiser.json              format, spec (condition map included), facts, files of weights and their sha256
    weights.safetensors        state dict of the backbone
    first-stage.safetensors    state dict of the first stage of a latent denoiser

Folders are written atomically and weights are verified on reading, so that an incomplete or damaged checkpoint is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from etsdm.backbones import External
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.errors import CheckpointError, PartError
from etsdm.registry import format_errors
from etsdm.storage.tensors import read_tensors, write_tensors

__all__ = [
    "DENOISER_FILE",
    "Checkpoint",
    "load_first_stage",
    "read_checkpoint",
    "read_json",
    "spec_record",
    "write_denoiser",
]

FORMAT = 1
DENOISER_FILE = "denoiser.json"
WEIGHTS_FILE = "weights.safetensors"
FIRST_STAGE_FILE = "first-stage.safetensors"


class Checkpoint(NamedTuple):
    """A checkpoint in memory. Fields: denoiser, in eval mode; facts stored with it; weights_sha256 of the backbone's file."""

    denoiser: Denoiser
    facts: dict[str, Any]
    weights_sha256: str


def write_denoiser(folder: Path, denoiser: Denoiser, weights: dict[str, Tensor], **facts: Any) -> None:
    """Writes a denoiser into an existing folder.

    Args:
        folder: a folder from `atomic_folder`, so that it appears whole.
        denoiser: the denoiser; its spec is written, and its first stage.
        weights: state dict of its backbone, for example the moving average.
        **facts: JSON values to store, for example `weights_are="ema"` and `images_seen`.
    """
    record = {
        "format": FORMAT,
        "denoiser": spec_record(denoiser.spec),
        "weights": write_tensors(folder / WEIGHTS_FILE, weights),
        "facts": facts,
    }
    if denoiser.first_stage is not None:
        record["first_stage"] = write_tensors(folder / FIRST_STAGE_FILE, denoiser.first_stage.state_dict())
    (folder / DENOISER_FILE).write_text(json.dumps(record, indent=2) + "\n")


def spec_record(spec: DenoiserSpec) -> dict[str, Any]:
    """JSON values of a specification. Of an external backbone they hold its options, not its module."""
    if not isinstance(spec.backbone, External):
        return spec.model_dump(mode="json")
    return {**spec.model_dump(mode="json", exclude={"backbone"}), "backbone": spec.backbone.record()}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON record of a checkpoint. Raises: CheckpointError if it is missing, no JSON or of an unknown format."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: is no checkpoint, {path.name} is missing; give a folder that holds it") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy the checkpoint again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise CheckpointError(f"{path}: format {found!r} is not known, this etsdm reads format {FORMAT}; use the etsdm that wrote it")
    return record


def read_checkpoint(folder: Path, device: torch.device | str = "cpu", *, backbone: Callable[..., Any] | None = None) -> Checkpoint:
    """Reads a denoiser, verifies its weights and loads them strictly.

    Args:
        folder: a checkpoint.
        device: where to put the denoiser.
        backbone: the network of a denoiser with an external backbone, into which its weights are loaded; None for all others.

    Raises:
        CheckpointError: the folder is no checkpoint, its weights do not fit its specification, or `backbone` is missing or not
            expected.
        IntegrityError: the weights are damaged.
    """
    record = read_json(folder / DENOISER_FILE)
    for key in ("denoiser", "weights", "facts"):
        if key not in record:
            raise CheckpointError(f"{folder / DENOISER_FILE}: has no {key!r}; copy the checkpoint again")
    spec = _read_spec(folder / DENOISER_FILE, record["denoiser"], backbone)
    try:
        denoiser = spec.build()
    except PartError as error:
        raise CheckpointError(f"{folder / DENOISER_FILE}: denoiser.{error}") from None
    _load(denoiser.backbone, read_tensors(folder, record["weights"]), folder, f"backbone {spec.backbone.type_name!r}")
    if denoiser.first_stage is not None:
        if "first_stage" not in record:
            raise CheckpointError(f"{folder / DENOISER_FILE}: has no 'first_stage', which its denoiser needs; copy the checkpoint again")
        _load_first_stage(denoiser, folder, read_tensors(folder, record["first_stage"]))
    return Checkpoint(denoiser.eval().requires_grad_(False).to(device), record["facts"], record["weights"]["sha256"])


def _read_spec(file: Path, record: dict[str, Any], network: Callable[..., Any] | None) -> DenoiserSpec:
    described = record.get("backbone")
    kind = described.get("type") if isinstance(described, dict) else described
    if network is not None and kind != External.type_name:
        raise CheckpointError(f"{file}: denoiser.backbone: {kind!r} is built by etsdm; leave backbone= out")
    if network is None and kind == External.type_name:
        raise CheckpointError(f"{file}: denoiser.backbone: its network was given from outside; give one like it as backbone=, in Python")
    try:
        if network is not None:
            record = {**record, "backbone": External.from_record(record["backbone"], network)}
        return DenoiserSpec.model_validate(record)
    except ValidationError as error:
        problem = format_errors(error)[0]
        raise CheckpointError(f"{file}: denoiser.{problem.field}: {problem.message}") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: denoiser.{error}") from None


def load_first_stage(denoiser: Denoiser, path: Path) -> None:
    """Loads published weights into the first stage of a denoiser, with strict keys.

    Args:
        denoiser: a denoiser with a first stage.
        path: safetensors file of the first stage's state dict, with the keys of CompVis/latent-diffusion.

    Raises:
        CheckpointError: the file is no safetensors file, or its keys or shapes do not fit.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error}); give the first stage's state dict") from None
    _load_first_stage(denoiser, path, weights)


def _load_first_stage(denoiser: Denoiser, place: Path, weights: dict[str, Tensor]) -> None:
    assert denoiser.first_stage is not None
    _load(denoiser.first_stage, weights, place, f"first stage {denoiser.first_stage.spec.type_name!r}")


def _load(network: nn.Module, weights: dict[str, Tensor], place: Path, whose: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{place}: the weights do not fit {whose}: {reason}") from None
