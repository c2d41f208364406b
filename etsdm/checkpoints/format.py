"""Checkpoint format of a denoiser: a folder with its spec in JSON and its weights in safetensors.

    denoiser.json              format, spec (condition map included), facts, files of weights and their sha256; sealed
    weights.safetensors        state dict of the backbone: in a training's checkpoint the moving average
    current.safetensors        in a training's checkpoint, the weights that were averaged
    first-stage.safetensors    state dict of the first stage of a latent denoiser

Folders are written atomically, and record and weights are verified on reading, so that an incomplete or damaged checkpoint is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from etsdm.backbones import External
from etsdm.backbones.first_stages import FirstStageNetwork
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.devices import usable_device
from etsdm.errors import CheckpointError, IntegrityError, PartError
from etsdm.registry import format_errors
from etsdm.storage.faults import storage_errors
from etsdm.storage.records import Record, read_record, write_record
from etsdm.storage.regular import open_regular
from etsdm.storage.tensors import TensorFile, check_tensors, read_tensors, write_tensors

__all__ = [
    "DENOISER_FILE",
    "Checkpoint",
    "CheckpointRecord",
    "DenoiserRecord",
    "Weights",
    "check_checkpoint",
    "load_first_stage",
    "read_checkpoint",
    "read_checkpoint_record",
    "spec_record",
    "write_denoiser",
]

FORMAT = 2
DENOISER_FILE = "denoiser.json"
WEIGHTS_FILE = "weights.safetensors"
CURRENT_FILE = "current.safetensors"
FIRST_STAGE_FILE = "first-stage.safetensors"


Weights = Literal["ema", "current"]


class CheckpointRecord(Record):
    """Base of the records of a checkpoint."""

    FORMAT: ClassVar[int] = FORMAT
    MEND: ClassVar[str] = "copy the checkpoint again"


class DenoiserRecord(CheckpointRecord):
    """Record of a denoiser.

    Fields: denoiser, its spec; weights; current, those that were averaged, None where `weights` are no average; facts stored with it;
    first_stage, None without one.
    """

    denoiser: dict[str, Any]
    weights: TensorFile
    current: TensorFile | None = None
    facts: dict[str, Any]
    first_stage: TensorFile | None = None


C = TypeVar("C", bound=CheckpointRecord)


class Checkpoint(NamedTuple):
    """A checkpoint in memory. Fields: denoiser, in eval mode; facts stored with it; weights_sha256 of the backbone's file."""

    denoiser: Denoiser
    facts: dict[str, Any]
    weights_sha256: str


@storage_errors()
def write_denoiser(
    folder: Path | str, denoiser: Denoiser, weights: dict[str, Tensor], current: dict[str, Tensor] | None = None, **facts: Any
) -> None:
    """Writes a denoiser into an existing folder.

    Args:
        folder: a folder from `atomic_folder`, so that it appears whole.
        denoiser: the denoiser; its spec is written, and its first stage.
        weights: state dict of its backbone, for example the moving average.
        current: state dict with the weights that were averaged, None where `weights` are no average.
        **facts: JSON values to store, for example `weights_are="ema"` and `images_seen`.
    """
    folder, first_stage = Path(folder), denoiser.first_stage
    record = DenoiserRecord(
        denoiser=spec_record(denoiser.spec),
        weights=write_tensors(folder / WEIGHTS_FILE, weights),
        current=None if current is None else write_tensors(folder / CURRENT_FILE, current),
        facts=facts,
        first_stage=None if first_stage is None else _write_first_stage(folder / FIRST_STAGE_FILE, denoiser),
    )
    write_record(folder / DENOISER_FILE, record)


def _write_first_stage(path: Path, denoiser: Denoiser) -> TensorFile:
    assert denoiser.first_stage is not None
    if not denoiser.has_weightless_first_stage:
        return write_tensors(path, denoiser.first_stage.state_dict())
    if denoiser.first_stage_file is None:
        kind = denoiser.first_stage.spec.type_name
        raise CheckpointError(f"{path}: first stage {kind!r} has no weights; load them with etsdm.checkpoints.load_first_stage")
    return write_tensors(path, load_file(denoiser.first_stage_file))


def spec_record(spec: DenoiserSpec) -> dict[str, Any]:
    """JSON values of a specification. Of an external backbone they hold its options, not its module."""
    if not isinstance(spec.backbone, External):
        return spec.model_dump(mode="json")
    return {**spec.model_dump(mode="json", exclude={"backbone"}), "backbone": spec.backbone.record()}


def read_checkpoint_record(path: Path, kind: type[C]) -> C:
    """Reads a record of a checkpoint.

    Raises:
        CheckpointError: it is missing.
        IntegrityError: it is damaged, or of another format.
    """
    record = read_record(path, kind)
    if record is None:
        raise CheckpointError(f"{path.parent}: is no checkpoint, {path.name} is missing; give a folder that holds it")
    return record


@storage_errors()
def check_checkpoint(folder: Path) -> DenoiserRecord:
    """Verifies the record and the files of a denoiser without building it; errors are those of `read_checkpoint`."""
    record = read_checkpoint_record(folder / DENOISER_FILE, DenoiserRecord)
    for file in (record.weights, record.current, record.first_stage):
        if file is not None:
            check_tensors(folder, file)
    return record


@storage_errors()
def read_checkpoint(
    folder: Path | str, device: torch.device | str = "cpu", *, backbone: Callable[..., Any] | None = None, weights: Weights = "ema"
) -> Checkpoint:
    """Reads a denoiser, verifies its weights and loads them strictly.

    Args:
        folder: a checkpoint.
        device: where to put the denoiser.
        backbone: the network of a denoiser with an external backbone, into which its weights are loaded; None for all others.
        weights: of a training's checkpoint, `ema` for the moving average or `current` for the weights that were averaged.

    Raises:
        CheckpointError: the folder is no checkpoint, its weights do not fit its specification, `backbone` is missing or not
            expected, or the checkpoint holds no current weights.
        IntegrityError: the record or the weights are damaged, or not finite.
        PartError: there is no such device.
    """
    folder, device = Path(folder), usable_device(device)
    record = read_checkpoint_record(folder / DENOISER_FILE, DenoiserRecord)
    if weights not in get_args(Weights):
        raise CheckpointError(f"weights: {weights!r} are unknown; give ema or current")
    file = record.weights if weights == "ema" else record.current
    if file is None:
        raise CheckpointError(f"{folder}: holds one set of weights and no current ones beside it; leave weights out")
    spec = _read_spec(folder / DENOISER_FILE, record.denoiser, backbone)
    try:
        denoiser = spec.build()
    except PartError as error:
        raise CheckpointError(f"{folder / DENOISER_FILE}: denoiser.{error}") from None
    _load(denoiser.backbone, read_tensors(folder, file), folder, f"backbone {spec.backbone.type_name!r}")
    if denoiser.first_stage is not None:
        if record.first_stage is None:
            raise CheckpointError(f"{folder / DENOISER_FILE}: has no 'first_stage', which its denoiser needs; copy the checkpoint again")
        _load_first_stage(denoiser.first_stage, folder, read_tensors(folder, record.first_stage))
    return Checkpoint(denoiser.eval().requires_grad_(False).to(device), record.facts, file.sha256)


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


@storage_errors()
def load_first_stage(target: Denoiser | FirstStageNetwork, path: Path | str) -> None:
    """Loads published weights into a first stage, with strict keys.

    Args:
        target: a first stage, or a denoiser with one.
        path: safetensors file of the first stage's state dict, with the keys of CompVis/latent-diffusion.

    Raises:
        CheckpointError: the file is no safetensors file, or its keys or shapes do not fit.
    """
    try:
        open_regular(Path(path)).close()
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error}); give the first stage's state dict") from None
    if isinstance(target, FirstStageNetwork):
        _load_first_stage(target, Path(path), weights)
        return
    assert target.first_stage is not None
    if not target.has_weightless_first_stage:
        _load_first_stage(target.first_stage, Path(path), weights)
        return
    # A copy checks the weights, and lets go of them.
    _load_first_stage(copy.deepcopy(target.first_stage), Path(path), weights, assign=True)
    target.first_stage_file = Path(path)


def _load_first_stage(network: FirstStageNetwork, place: Path, weights: dict[str, Tensor], *, assign: bool = False) -> None:
    _load(network, weights, place, f"first stage {network.spec.type_name!r}", assign=assign)


def _load(network: nn.Module, weights: dict[str, Tensor], place: Path, whose: str, *, assign: bool = False) -> None:
    try:
        network.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{place}: the weights do not fit {whose}: {reason}") from None
    for name, weight in network.named_parameters():
        if not torch.isfinite(weight).all():
            raise IntegrityError(f"{place}: weight {name!r} of {whose} is not finite; use an earlier checkpoint, or train again")
