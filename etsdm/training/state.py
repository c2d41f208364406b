"""Training checkpoints: a denoiser that loads on its own, and beside it the state for resuming bit for bit.

denoiser.json, weights.safetensors, current.safetensors    averaged and current weights (`etsdm.checkpoints.format`)
training.json, training.safetensors                        the optimizer's state, by index of the parameter
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from etsdm.backbones import External
from etsdm.checkpoints.format import (
    DENOISER_FILE,
    FIRST_STAGE_FILE,
    CheckpointRecord,
    Weights,
    read_checkpoint,
    read_checkpoint_record,
    spec_record,
    write_denoiser,
)
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.storage.files import atomic_folder, sha256_of
from etsdm.storage.records import write_record
from etsdm.storage.tensors import TensorFile, read_tensors, write_tensors

__all__ = ["TRAINING_FILE", "TrainingState", "read_state", "write_state"]

TRAINING_FILE = "training.json"


class TrainingRecord(CheckpointRecord):
    """State of a training beside its tensors.

    Fields: images_seen; averaged, updates of the moving average; log, records up to here; tensors; denoiser_sha256, of the denoiser's
    record in the same checkpoint.
    """

    images_seen: NonNegativeInt
    averaged: NonNegativeInt
    log: list[dict[str, Any]]
    tensors: TensorFile
    denoiser_sha256: str


class TrainingState(NamedTuple):
    """State of a training beside its tensors. Fields: images_seen; log, records up to here."""

    images_seen: int
    log: list[dict[str, Any]]


def write_state(
    folder: Path,
    denoiser: Denoiser,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    *,
    images_seen: int,
    log: list[dict[str, Any]],
    **facts: Any,
) -> None:
    """Writes a checkpoint folder atomically.

    Args:
        folder: a new folder.
        denoiser: the denoiser with the current weights.
        average: the moving average of its backbone.
        optimizer: the optimizer of its backbone.
        images_seen: progress.
        log: its records so far.
        **facts: JSON values to store with the denoiser.

    Raises:
        IntegrityError: the folder exists; checkpoints are not overwritten.
    """
    tensors = {f"{index}.{key}": value for index, state in optimizer.state_dict()["state"].items() for key, value in state.items()}
    averaged, current = average.module.state_dict(), denoiser.backbone.state_dict()
    with atomic_folder(folder) as new:
        write_denoiser(new, denoiser, averaged, current, images_seen=images_seen, **facts)
        record = TrainingRecord(
            images_seen=images_seen,
            averaged=int(average.n_averaged),
            log=log,
            tensors=write_tensors(new / "training.safetensors", tensors),
            denoiser_sha256=sha256_of(new / DENOISER_FILE),
        )
        write_record(new / TRAINING_FILE, record)
    if denoiser.has_weightless_first_stage:
        denoiser.first_stage_file = folder / FIRST_STAGE_FILE  # the one before may be removed with its checkpoint


def read_state(folder: Path, denoiser: Denoiser, average: AveragedModel, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Loads a checkpoint into the denoiser, average and optimizer of a new training.

    Raises:
        CheckpointError: the folder is no training checkpoint, or its denoiser has another spec.
        IntegrityError: a file is damaged, or of another checkpoint.
    """
    record = read_checkpoint_record(folder / TRAINING_FILE, TrainingRecord)
    tensors = read_tensors(folder, record.tensors, denoiser.device)
    backbone = denoiser.spec.backbone

    def saved(weights: Weights) -> Denoiser:
        external = copy.deepcopy(backbone.network) if isinstance(backbone, External) else None
        return read_checkpoint(folder, denoiser.device, backbone=external, weights=weights).denoiser

    averaged = saved("ema")
    if sha256_of(folder / DENOISER_FILE) != record.denoiser_sha256:
        raise IntegrityError(f"{folder}: {DENOISER_FILE} and {TRAINING_FILE} are of two checkpoints; copy the whole folder again")
    if spec_record(averaged.spec) != spec_record(denoiser.spec):
        raise CheckpointError(f"{folder}: holds another denoiser than the recipe describes; train in another folder")
    average.module.load_state_dict(averaged.backbone.state_dict())
    average.n_averaged.fill_(record.averaged)
    if denoiser.has_weightless_first_stage:
        denoiser.first_stage_file = folder / FIRST_STAGE_FILE
    elif denoiser.first_stage is not None and averaged.first_stage is not None:
        denoiser.first_stage.load_state_dict(averaged.first_stage.state_dict())
    denoiser.backbone.load_state_dict(saved("current").backbone.state_dict())
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return TrainingState(record.images_seen, record.log)
