"""Training that goes on from the checkpoint of another length of the same training.

Everything in a training is a function of the seed and of the images seen, and its length enters by the learning rate alone. Where the
learning-rate schedule does not depend on the length (`LRSchedule.uses_length`), two trainings that differ only in `training.images` are
the same, bit for bit, up to the shorter one's last whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.recipe.compare import differences
from etsdm.runs.folder import TrainingFolder
from etsdm.training import Training

__all__ = ["Start", "differs_in_length_alone", "starts"]

LENGTH = "training.images"


class Start(NamedTuple):
    """A checkpoint that a training goes on from. Fields: folder and digest of its training; checkpoint; images seen."""

    folder: TrainingFolder
    digest: str
    checkpoint: Path
    images: int


def differs_in_length_alone(recorded: Mapping[str, Any], needed: Mapping[str, Any]) -> bool:
    """Whether two trainings differ in `training.images` and in nothing else. Arguments are those of `etsdm.runs.changes.reasons`."""
    return [change.path for change in differences(recorded, needed)] == [LENGTH]


def starts(needed: Mapping[str, Any], training: Training, folders: Iterable[TrainingFolder]) -> list[Start]:
    """Checkpoints of trainings of another length that a training passes through.

    Args:
        needed: what the training depends on.
        training: its section of the recipe.
        folders: of other trainings.
    """
    if training.lr_schedule.uses_length:
        return []
    found = []
    for folder in folders:
        record = folder.dependencies()
        if record is not None and differs_in_length_alone(record.depends_on, needed):
            found += [Start(folder, record.digest, path, int(path.name)) for path in folder.all_checkpoints()]
    # The last batch of a training may be smaller than the others, and is then no batch of a longer one.
    return [one for one in found if one.images <= training.images and one.images % training.batch_size == 0]
