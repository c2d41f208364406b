"""`etsdm.load`: a trained denoiser from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from etsdm.checkpoints.format import Weights, read_checkpoint
from etsdm.checkpoints.latest import checkpoint_folder
from etsdm.denoisers.denoiser import Denoiser
from etsdm.storage.faults import storage_errors

__all__ = ["load"]


@storage_errors()
def load(
    path: str | Path, device: torch.device | str = "cpu", *, backbone: Callable[..., Any] | None = None, weights: Weights = "ema"
) -> Denoiser:
    """Loads a denoiser, with its schedule, target and condition map, and verifies its weights.

    Args:
        path: a checkpoint's folder, or a run's folder, whose latest whole checkpoint is taken.
        device: where to put it.
        backbone: the network of a denoiser with an external backbone, into which its weights are loaded; None for all others.
        weights: `ema` for the moving average, or `current` for the weights that training had when it wrote the checkpoint.

    Returns:
        The denoiser in eval mode, with gradients of the weights off.

    Raises:
        CheckpointError: there is no checkpoint, `backbone` is missing, not expected, or another network, or the checkpoint holds no
            current weights.
        IntegrityError: it is damaged; of a run, all its checkpoints are.

    Warns:
        UserWarning: the latest checkpoint of a run is damaged or missing, and the one before it is taken.
    """
    return read_checkpoint(checkpoint_folder(path), device, backbone=backbone, weights=weights).denoiser
