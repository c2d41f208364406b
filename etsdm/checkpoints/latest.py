"""The latest checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

from etsdm.checkpoints.format import DENOISER_FILE
from etsdm.errors import CheckpointError

__all__ = ["CHECKPOINTS", "all_checkpoints", "checkpoint_folder", "latest_checkpoint"]


CHECKPOINTS = "checkpoints"  # folder of a run, with one folder per checkpoint, named by images seen


def all_checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, by images seen."""
    return sorted(path for path in (run / CHECKPOINTS).glob("[0-9]*") if path.is_dir())


def latest_checkpoint(run: Path) -> Path | None:
    """The checkpoint of a run with the most images seen, None without any."""
    found = all_checkpoints(run)
    return found[-1] if found else None


def checkpoint_folder(path: str | Path) -> Path:
    """Resolves a path to a checkpoint folder: itself, or the latest of a run. Raises: CheckpointError if there is none."""
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is no folder; give a checkpoint's folder or a run's folder")
    if (folder / DENOISER_FILE).exists():
        return folder
    latest = latest_checkpoint(folder)
    if latest is None:
        if runs := sorted(str(run) for run in folder.iterdir() if latest_checkpoint(run)):
            raise CheckpointError(f"{folder}: holds runs and is none; give one of {', '.join(runs)}")
        raise CheckpointError(f"{folder}: holds neither {DENOISER_FILE} nor checkpoints; give a checkpoint's folder or a run's folder")
    return latest
