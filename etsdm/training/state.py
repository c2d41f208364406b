"""Training checkpoints: a denoiser that loads on its own, and beside it the state for resuming bit for bit.

denoiser.json, weights.safetensors, current.safetensors    averaged and current weights (`etsdm.checkpoints.format`)
training.json, training.safetensors                        the optimizer's state, by index of the parameter
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from etsdm.backbones import External
from etsdm.checkpoints.format import Weights, read_checkpoint, read_json, spec_record, write_denoiser
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError
from etsdm.storage.files import atomic_folder
from etsdm.storage.tensors import read_tensors, write_tensors

__all__ = ["TRAINING_FILE", "read_state", "write_state"]

FORMAT = 1
TRAINING_FILE = "training.json"


def write_state(
    folder: Path, denoiser: Denoiser, average: AveragedModel, optimizer: torch.optim.Optimizer, *, images_seen: int, **facts: Any
) -> None:
    """Writes a checkpoint folder atomically.

    Args:
        folder: a new folder.
        denoiser: the denoiser with the current weights.
        average: the moving average of its backbone.
        optimizer: the optimizer of its backbone.
        images_seen: progress.
        **facts: JSON values to store with the denoiser.

    Raises:
        IntegrityError: the folder exists; checkpoints are not overwritten.
    """
    tensors = {f"{index}.{key}": value for index, state in optimizer.state_dict()["state"].items() for key, value in state.items()}
    averaged, current = average.module.state_dict(), denoiser.backbone.state_dict()
    with atomic_folder(folder) as new:
        write_denoiser(new, denoiser, averaged, current, images_seen=images_seen, **facts)
        record = {
            "format": FORMAT,
            "images_seen": images_seen,
            "averaged": int(average.n_averaged),
            "tensors": write_tensors(new / "training.safetensors", tensors),
        }
        (new / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n")


def read_state(folder: Path, denoiser: Denoiser, average: AveragedModel, optimizer: torch.optim.Optimizer) -> int:
    """Loads a checkpoint into the denoiser, average and optimizer of a new training.

    Returns:
        Images seen.

    Raises:
        CheckpointError: the folder is no training checkpoint, or its denoiser has another spec.
        IntegrityError: a file is damaged.
    """
    record = read_json(folder / TRAINING_FILE)
    tensors = read_tensors(folder, record["tensors"], denoiser.device)
    backbone = denoiser.spec.backbone

    def saved(weights: Weights) -> Denoiser:
        external = copy.deepcopy(backbone.network) if isinstance(backbone, External) else None
        return read_checkpoint(folder, denoiser.device, backbone=external, weights=weights).denoiser

    averaged = saved("ema")
    if spec_record(averaged.spec) != spec_record(denoiser.spec):
        raise CheckpointError(f"{folder}: holds another denoiser than the recipe describes; train in another folder")
    average.module.load_state_dict(averaged.backbone.state_dict())
    average.n_averaged.fill_(record["averaged"])
    if denoiser.first_stage is not None and averaged.first_stage is not None:
        denoiser.first_stage.load_state_dict(averaged.first_stage.state_dict())
    denoiser.backbone.load_state_dict(saved("current").backbone.state_dict())
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(record["images_seen"])
