"""`etsdm.load`: a trained denoiser from a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from etsdm.checkpoints.format import read_checkpoint
from etsdm.checkpoints.latest import checkpoint_folder
from etsdm.denoisers.denoiser import Denoiser

__all__ = ["load"]


def load(path: str | Path, device: torch.device | str = "cpu") -> Denoiser:
    """Loads a denoiser, with its schedule, target and condition map, and verifies its weights.

    Args:
        path: a checkpoint's folder, or a run's folder, whose latest checkpoint is taken.
        device: where to put it.

    Returns:
        The denoiser in eval mode, with gradients of the weights off.

    Raises:
        CheckpointError: there is no checkpoint.
        IntegrityError: it is damaged.
    """
    return read_checkpoint(checkpoint_folder(path), device).denoiser
