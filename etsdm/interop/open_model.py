"""`open_model`: a denoiser from whatever holds one."""

from __future__ import annotations

from pathlib import Path

import torch

from etsdm.checkpoints import Weights, checkpoint_folder, read_checkpoint
from etsdm.denoisers.denoiser import Denoiser
from etsdm.storage.faults import storage_errors

__all__ = ["open_model"]


@storage_errors()
def open_model(path: str | Path, device: torch.device | str = "cpu", *, weights: Weights = "ema") -> Denoiser:
    """Opens a trained denoiser.

    Args:
        path: a checkpoint's folder, or the folder of a run.
        device: where to put it.
        weights: of a checkpoint, `ema` for the moving average, or `current` for the weights that training had.

    Returns:
        The denoiser in eval mode, with gradients of the weights off.

    Raises:
        CheckpointError: there is none, or it holds none of these weights.
        IntegrityError: it is damaged.
    """
    return read_checkpoint(checkpoint_folder(path), device, weights=weights).denoiser
