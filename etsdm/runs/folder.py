"""Run folders: the paths and records of an experiment, read and written here only.

    runs/<experiment>/
        experiment.json              layout, arms, seeds, and the digest of what the report shows
        report.html
        trainings/<digest>/          named by the digest of what the training depends on; shared by arms and seeds
            recipe.yaml              of the run that trained it, fully resolved
            environment.json         versions and machine, and all that the training depends on
            log.jsonl                training log, one record a line
            stage.json               digest, seconds and facts, once it is finished
            checkpoints/<images_seen>/
        <arm>/                       the first seed; other seeds in <arm>/seed-<k>/
            recipe.yaml              fully resolved
            run.json                 its training, and the digests of its samples and values
            redone.jsonl             what was done again and why, one record for each stage and start
            samples/<sampling>/      tensors of some images each, digest.txt, grid.png of the first images, stage.json
            values/<metric>.json                metrics of the denoiser, each with its protocol
            values/<sampling>/<metric>.json     metrics of samples

Every write is atomic; `log.jsonl` is appended to, and truncated to the last checkpoint when a killed training is resumed. What was trained
is never moved or removed: another digest is another folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL.Image import Image

from etsdm.checkpoints.latest import CHECKPOINTS, RUN_RECORD, STAGE_RECORD, all_checkpoints, latest_checkpoint
from etsdm.errors import IntegrityError
from etsdm.runs.records import EnvironmentRecord, ExperimentRecord, Manifest, StageRecord, ValueRecord
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import locked, write_atomically
from etsdm.storage.images import png_bytes, read_sealed_png
from etsdm.storage.records import read_beside, read_record, write_record

__all__ = ["TRAININGS", "ExperimentFolder", "RunFolder", "SampleFolder", "TrainingFolder"]

TRAININGS = "trainings"
DIGEST_LENGTH = 12  # hex digits in names of folders


class _StageFolder:
    """A folder that one stage fills. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stage_file = path / STAGE_RECORD

    def finished(self) -> StageRecord | None:
        """The record of the finished stage, None before."""
        return read_record(self._stage_file, StageRecord)

    def finish(self, record: StageRecord) -> None:
        """Records that the stage is finished."""
        write_record(self._stage_file, record)


class TrainingFolder(_StageFolder):
    """The folder of one training."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.recipe_file = path / "recipe.yaml"
        self.checkpoints = path / CHECKPOINTS
        self._environment_file = path / "environment.json"
        self._log_file = path / "log.jsonl"

    def start(self, digest: str, recipe: str, environment: dict[str, str | int], depends_on: Mapping[str, Any]) -> None:
        """Records the recipe, as YAML, the environment of a training, and what it depends on."""
        write_atomically(self.recipe_file, recipe)
        record = EnvironmentRecord(digest=digest, recipe=_sha256(recipe), environment=environment, depends_on=dict(depends_on))
        write_record(self._environment_file, record)

    def dependencies(self) -> EnvironmentRecord | None:
        """The record of what the training depends on, None if it is missing or damaged."""
        try:
            return read_record(self._environment_file, EnvironmentRecord)
        except IntegrityError:
            return None

    def environment(self, digest: str) -> dict[str, str | int]:
        """Versions and machine. Args: digest: of the training. Raises: IntegrityError if they are missing or of another training."""
        record = self._environment()
        if record.digest != digest:
            raise IntegrityError(f"{self._environment_file}: belongs to another training; {self._mend}")
        return record.environment

    def recipe(self) -> str:
        """The recipe as YAML. Raises: IntegrityError if it is not the recorded one."""
        return _verified_recipe(self.recipe_file, self._environment().recipe, self._mend)

    def has_records(self) -> bool:
        """Whether the folder is that of a training that was started, and no other folder of checkpoints."""
        return any(file.exists() for file in (self.recipe_file, self._environment_file, self._stage_file))

    @property
    def _mend(self) -> str:
        return f"remove {self._stage_file} and run the recipe again, which records it anew and trains no further"

    def _environment(self) -> EnvironmentRecord:
        record = read_record(self._environment_file, EnvironmentRecord)
        if record is None:
            raise IntegrityError(f"{self._environment_file}: is missing; {self._mend}")
        return record

    def checkpoint_at(self, images_seen: int) -> Path:
        """Folder of the checkpoint after so many images, whether it exists or not."""
        return self.checkpoints / f"{images_seen:012d}"

    def all_checkpoints(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return all_checkpoints(self.path)

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint after the most images."""
        return latest_checkpoint(self.path)

    def set_aside(self, checkpoint: Path) -> Path:
        """Renames a damaged checkpoint, so that the training can write another in its place. Returns: its new folder."""
        name = f"damaged-{checkpoint.name}"
        taken = sum(path.name.startswith(name) for path in self.checkpoints.iterdir())
        return checkpoint.rename(checkpoint.with_name(f"{name}-{taken + 1}" if taken else name))

    def keep_checkpoints(self, count: int) -> None:
        """Removes all checkpoints but the latest `count`."""
        for path in self.all_checkpoints()[:-count]:
            shutil.rmtree(path)

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to the training log."""
        _append(self._log_file, record)

    def restart_log(self, records: list[dict[str, Any]]) -> None:
        """Writes the training log with these records, those up to the checkpoint that a training goes on from."""
        write_atomically(self._log_file, "".join(json.dumps(record) + "\n" for record in records))

    def locked(self) -> AbstractContextManager[None]:
        """Holds the training, so that no two processes train it at once. Raises: IntegrityError if another one does."""
        return locked(self.path, ".lock", "another process trains this; wait for it", also=(self.checkpoints,))


class SampleFolder(_StageFolder):
    """The folder of the samples of one name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.grid_file = path / "grid.png"

    def write_grid(self, picture: Image, **facts: str) -> None:
        """Writes the picture of the first samples. Args: facts: its text chunks, `digest` of the samples among them."""
        write_atomically(self.grid_file, png_bytes(picture, facts))

    def grid(self, digest: str) -> bytes:
        """The picture of the first samples. Raises: IntegrityError if it is missing, damaged or of other samples."""
        mend = "run the recipe again, which makes it again"
        try:
            text, content = read_sealed_png(self.grid_file)
        except IntegrityError as error:
            raise IntegrityError(f"{error}; {mend}") from None
        if text.get("digest") != digest:
            raise IntegrityError(f"{self.grid_file}: shows other samples; {mend}")
        return content

    def has_grid(self, digest: str) -> bool:
        """Whether the picture of the first samples is there and whole."""
        try:
            return bool(self.grid(digest))
        except IntegrityError:
            return False


class RunFolder:
    """The folder of one arm and seed. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self._run_file = path / RUN_RECORD
        self._redone_file = path / "redone.jsonl"

    def samples(self, name: str) -> SampleFolder:
        """The folder of the samples of one name."""
        return SampleFolder(self.path / "samples" / name)

    def value_file(self, key: str) -> Path:
        """The file of one value. Args: key: `metric` or `sampling/metric`."""
        return self.path / "values" / f"{key}.json"

    def value(self, file: str) -> ValueRecord | None:
        """The record of a value file, None before it was measured. Args: file: its path in this folder, as the manifest has it."""
        return read_record(self.path / file, ValueRecord)

    def manifest(self) -> Manifest | None:
        """The recorded parts of the run, None before it was started. Raises: IntegrityError if they are of another run."""
        manifest = read_record(self._run_file, Manifest)
        if manifest is not None:
            manifest.check(self.path)
        return manifest

    def write(self, recipe: str, manifest: Manifest) -> None:
        """Records the recipe, as YAML, and the parts of the run."""
        write_atomically(self.recipe_file, recipe)
        write_record(self._run_file, manifest)

    def log_redone(self, stage: str, reasons: Sequence[str]) -> None:
        """Appends to the log of what was done again."""
        _append(self._redone_file, {"stage": stage, "reasons": list(reasons), "time": datetime.now(UTC).isoformat(timespec="seconds")})

    def recipe(self) -> str:
        """The recipe as YAML. Raises: IntegrityError if it is not the recorded one."""
        manifest = self.manifest()
        if manifest is None:
            raise IntegrityError(f"{self._run_file}: is missing; {Manifest.MEND}")
        return _verified_recipe(self.recipe_file, manifest.recipe, Manifest.MEND)

    def has_recipe(self) -> bool:
        """Whether the recorded recipe is there and whole."""
        try:
            return bool(self.recipe())
        except IntegrityError:
            return False

    def training(self) -> TrainingFolder | None:
        """The folder of the recorded training, None before the run was started."""
        manifest = self.manifest()
        return self.training_at(manifest.training) if manifest else None

    def training_at(self, place: str) -> TrainingFolder:
        """The folder of a training. Args: place: its path from this folder, as the manifest has it."""
        return TrainingFolder(Path(os.path.normpath(self.path / place)))


class ExperimentFolder:
    """The folder of all arms. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report_file = path / "report.html"
        self._record_file = path / "experiment.json"

    def record(self) -> ExperimentRecord | None:
        """Arms and seeds, None before anything was run. Raises: IntegrityError for a folder of another layout."""
        return read_record(self._record_file, ExperimentRecord)

    def write_record(self, record: ExperimentRecord) -> None:
        """Records arms and seeds."""
        write_record(self._record_file, record)

    def run(self, arm: str, seed: int, first_seed: int) -> RunFolder:
        """The folder of one arm and seed."""
        folder = self.path / arm
        return RunFolder(folder if seed == first_seed else folder / f"seed-{seed}")

    def runs(self) -> dict[str, dict[int, RunFolder]]:
        """Folders of every arm by seed, as `experiment.json` lists them."""
        record = self.record()
        if record is None:
            return {}
        return {arm: {seed: self.run(arm, seed, record.seeds[0]) for seed in record.seeds} for arm in record.arms}

    def training(self, digest: str) -> TrainingFolder:
        """The folder of the training of a digest."""
        return TrainingFolder(self.path / TRAININGS / digest[:DIGEST_LENGTH])

    def trainings(self) -> list[TrainingFolder]:
        """Folders of all trainings that were started."""
        return [TrainingFolder(path) for path in sorted((self.path / TRAININGS).glob("[0-9a-f]*"))]

    def locked(self) -> AbstractContextManager[None]:
        """Holds the folder, so that two processes never write it at once. Raises: IntegrityError if another one does."""
        held = "another etsdm run is writing here; wait for it, or give another folder with --out"
        return locked(self.path, ".lock", held, also=(Path(folder) for folder, _, _ in os.walk(self.path)))


def _append(file: Path, record: dict[str, Any]) -> None:
    """Appends a record as one line of JSON."""
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as opened:
            opened.write(json.dumps(record) + "\n")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _verified_recipe(file: Path, recorded: str, mend: str) -> str:
    content = read_beside(file, mend)
    if content is None or hashlib.sha256(content).hexdigest() != recorded:
        found = "is missing" if content is None else "was changed or damaged: its sha256 is not the recorded one"
        raise IntegrityError(f"{file}: {found}; {mend}")
    return content.decode()
