"""`etsdm.save`: a denoiser into a folder."""

from __future__ import annotations

from pathlib import Path

from etsdm.checkpoints.format import write_denoiser
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import CheckpointError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import atomic_folder

__all__ = ["save"]


@storage_errors()
def save(denoiser: Denoiser, path: str | Path) -> Path:
    """Saves a denoiser, so that `etsdm.load` gives it back: its parts, its weights and those of its first stage, with their sha256.

    The folder appears whole or not at all. Weights are stored in their dtype, and loaded into float32.

    Args:
        denoiser: trained, loaded or built; not wrapped and not an exact one, which have no weights of their own.
        path: a new folder.

    Returns:
        The folder.

    Raises:
        CheckpointError: it is no `Denoiser`.
        IntegrityError: the folder exists, or cannot be written.
    """
    if not isinstance(denoiser, Denoiser):
        inner = "; save the denoiser inside" if hasattr(denoiser, "denoiser") else ""
        raise CheckpointError(f"found a {type(denoiser).__name__}, which has no weights of its own; give an etsdm.Denoiser{inner}")
    folder = Path(path)
    with atomic_folder(folder) as new:
        write_denoiser(new, denoiser, denoiser.backbone.state_dict())
    return folder
