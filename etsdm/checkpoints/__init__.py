"""Checkpoints: denoisers on disk, written atomically and verified on reading."""

from etsdm.checkpoints.format import DENOISER_FILE, Checkpoint, Weights, load_first_stage, read_checkpoint, write_denoiser
from etsdm.checkpoints.latest import checkpoint_folder, latest_checkpoint

__all__ = [
    "DENOISER_FILE",
    "Checkpoint",
    "Weights",
    "checkpoint_folder",
    "latest_checkpoint",
    "load_first_stage",
    "read_checkpoint",
    "write_denoiser",
]
