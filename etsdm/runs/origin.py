"""The recipe of the run that a checkpoint belongs to."""

from __future__ import annotations

from pathlib import Path

from etsdm.checkpoints.latest import CHECKPOINTS, checkpoint_folder
from etsdm.recipe import Recipe, load_arms
from etsdm.runs.folder import RunFolder, TrainingFolder
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
        IntegrityError: the recipe is not the recorded one.
    """
    checkpoint = checkpoint_folder(path).resolve()
    run, training = RunFolder(Path(path)), TrainingFolder(checkpoint.parents[1])
    if run.manifest() is not None:
        return _load(run)
    return _load(training) if checkpoint.parent.name == CHECKPOINTS and training.has_records() else None


def _load(folder: RunFolder | TrainingFolder) -> Recipe:
    folder.recipe()  # verifies it
    arms = load_arms(folder.recipe_file)
    return arms.recipes[arms.as_written]
