"""The recipe of the run that a checkpoint belongs to."""

from __future__ import annotations

from pathlib import Path

from etsdm.checkpoints.latest import checkpoint_folder
from etsdm.recipe import Recipe, load_arms
from etsdm.runs.folder import RunFolder
from etsdm.storage.faults import storage_errors

__all__ = ["recipe_of_checkpoint"]


@storage_errors()
def recipe_of_checkpoint(path: Path | str) -> Recipe | None:
    """The recipe that trained a checkpoint.

    Args:
        path: a checkpoint's folder or a run's folder.

    Returns:
        The run's recipe, or None for a checkpoint without a run.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    run = checkpoint_folder(path).resolve().parents[1]
    for folder in (Path(path), run):
        if (file := RunFolder(folder).recipe_file).is_file():
            arms = load_arms(file)
            return arms.recipes[arms.as_written]
    return None
