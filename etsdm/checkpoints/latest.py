"""The latest checkpoint of a training's or a run's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from etsdm.checkpoints.format import DENOISER_FILE, check_checkpoint
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.records import Record, read_record

__all__ = ["CHECKPOINTS", "RUN_RECORD", "STAGE_RECORD", "TrainingOfRun", "all_checkpoints", "checkpoint_folder", "latest_checkpoint"]

CHECKPOINTS = "checkpoints"  # folder of a training that holds them, each in a folder named by images seen
STAGE_RECORD = "stage.json"  # record of a finished stage, such as a training
RUN_RECORD = "run.json"  # record of a run, whose `training` is the path to its training's folder


class TrainingOfRun(Record):
    """The part of a run's record that names its training. Fields: arm and seed of the run; training, path from its folder."""

    model_config = ConfigDict(extra="ignore")

    arm: str
    seed: int
    training: str

    def check(self, run: Path) -> None:
        """Raises: IntegrityError if the record is of another run than that of its folder."""
        folder = run.resolve()
        if self.arm != folder.name and (folder.name, folder.parent.name) != (f"seed-{self.seed}", self.arm):
            raise IntegrityError(f"{run / RUN_RECORD}: belongs to arm {self.arm!r}, seed {self.seed}, not to this folder; {self.MEND}")


class EndOfTraining(Record):
    """The part of a finished training's record that says how far it went. Fields: log, its log records."""

    model_config = ConfigDict(extra="ignore")

    log: list[dict[str, Any]]


def all_checkpoints(training: Path) -> list[Path]:
    """Whole checkpoints of a training's folder, oldest first."""
    return sorted(path for path in (training / CHECKPOINTS).glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


@storage_errors()
def latest_checkpoint(training: Path | str) -> Path | None:
    """The checkpoint of a training's folder after the most images."""
    found = all_checkpoints(Path(training))
    return found[-1] if found else None


@storage_errors()
def checkpoint_folder(path: str | Path) -> Path:
    """The folder of a checkpoint.

    Args:
        path: a checkpoint's folder, or the folder of a training or of a run, whose latest checkpoint is taken.

    Raises:
        CheckpointError: there is none.
        IntegrityError: the latest checkpoint of a training is damaged, or that of its end is missing; an earlier one gives other numbers.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is no folder; give a checkpoint's folder or a run's folder")
    if (folder / DENOISER_FILE).exists():
        return folder
    latest = _latest(_training_of(folder))
    if latest is None:
        if runs := sorted(str(run) for run in folder.iterdir() if latest_checkpoint(_training_of(run))):
            raise CheckpointError(f"{folder}: holds runs and is none; give one of {', '.join(runs)}")
        if (training := _training_of(folder)) != folder:
            raise CheckpointError(f"{folder}: its training {training} holds no checkpoint; run the recipe first")
        raise CheckpointError(f"{folder}: holds neither {DENOISER_FILE} nor checkpoints; give a checkpoint's folder or a run's folder")
    return latest


def _latest(training: Path) -> Path | None:
    """The latest checkpoint, None where there is none; errors are those of `checkpoint_folder`."""
    damaged: list[CheckpointError | IntegrityError] = []
    for checkpoint in reversed(all_checkpoints(training)):
        try:
            seen = check_checkpoint(checkpoint).facts.get("images_seen", int(checkpoint.name))
            if seen != int(checkpoint.name):
                raise IntegrityError(f"{checkpoint}: holds the checkpoint after {seen} images; copy this one again")
        except (CheckpointError, IntegrityError) as error:
            damaged.append(error)
            continue
        mend = f"run the recipe again, which goes on from {int(checkpoint.name):,} images, or give the checkpoint there: {checkpoint}"
        if damaged:
            raise IntegrityError(f"{damaged[0]}; {mend}")
        if (end := _end_of(training)) is not None and end > int(checkpoint.name):
            raise IntegrityError(f"{training / CHECKPOINTS}: the checkpoint at the end of training, {end:,} images, is missing; {mend}")
        return checkpoint
    if damaged:
        raise IntegrityError(f"{damaged[0]}; no earlier checkpoint of {training} is whole")
    return None


def _end_of(training: Path) -> int | None:
    """Images seen at the end of a finished training, None where its record does not say."""
    try:
        record = read_record(training / STAGE_RECORD, EndOfTraining)
    except IntegrityError:
        return None  # a run names it
    seen = record.log[-1].get("images_seen") if record and record.log else None
    return seen if isinstance(seen, int) else None


def _training_of(folder: Path) -> Path:
    """The folder of the training that a run's record names; the folder itself where there is no record."""
    record = read_record(folder / RUN_RECORD, TrainingOfRun) if folder.is_dir() else None
    if record is None:
        return folder
    record.check(folder)
    return Path(os.path.normpath(folder / record.training))
