"""Run folders: the paths and records of an experiment, read and written here only.

    runs/<experiment>/
        experiment.json              layout, arms, seeds, and the digest of what the report shows
        report.html
        trainings/<digest>/          named by the digest of what the training depends on; shared by arms and seeds
            recipe.yaml              of the run that trained it, fully resolved
            environment.json         versions and machine
            log.jsonl                training log, one record a line
            stage.json               digest, seconds and facts, once it is finished
            checkpoints/<images_seen>/
        <arm>/                       the first seed; other seeds in <arm>/seed-<k>/
            recipe.yaml              fully resolved
            run.json                 its training, and the digests of its samples and values
            samples/<sampling>/      tensors of some images each, digest.txt, grid.png of the first images, stage.json
            values/<metric>.json                metrics of the denoiser, each with its protocol
            values/<sampling>/<metric>.json     metrics of samples

Every write is atomic; `log.jsonl` is appended to, and truncated to the last checkpoint when a killed training is resumed. What was trained
is never moved or removed: another digest is another folder.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.checkpoints.latest import CHECKPOINTS, RUN_RECORD, all_checkpoints, latest_checkpoint
from etsdm.errors import IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import locked, read_record, write_atomically, write_record

__all__ = [
    "LAYOUT",
    "TRAININGS",
    "ExperimentFolder",
    "Manifest",
    "RunFolder",
    "SampleFolder",
    "StageRecord",
    "TrainingFolder",
    "ValueEntry",
]

LAYOUT = 2  # raise it when folders of before cannot be read
TRAININGS = "trainings"
DIGEST_LENGTH = 12  # hex digits in names of folders


class StageRecord(NamedTuple):
    """A finished stage. Fields: digest of what it depends on; seconds it took; facts, JSON values for the summary."""

    digest: str
    seconds: float
    facts: dict[str, Any]


class ValueEntry(NamedTuple):
    """A value file of a run. Fields: metric, name of the metric; sampling, name of the measured samples or None; file; digest."""

    metric: str
    sampling: str | None
    file: str
    digest: str


class Manifest(NamedTuple):
    """Parts of a run. Fields: training, path of its folder; train, its digest; samples, digests by name; values, one entry a file."""

    training: str
    train: str
    samples: dict[str, str]
    values: list[ValueEntry]


class _StageFolder:
    """A folder that one stage fills. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stage_file = path / "stage.json"

    def finished(self) -> StageRecord | None:
        """The record of the finished stage, None before."""
        record = read_record(self._stage_file)
        return StageRecord(**record) if record else None

    def finish(self, record: StageRecord) -> None:
        """Records that the stage is finished."""
        write_record(self._stage_file, record._asdict())


class TrainingFolder(_StageFolder):
    """The folder of one training."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.recipe_file = path / "recipe.yaml"
        self.environment_file = path / "environment.json"
        self.checkpoints = path / CHECKPOINTS
        self._log_file = path / "log.jsonl"

    def checkpoint_at(self, images_seen: int) -> Path:
        """Folder of the checkpoint after so many images, whether it exists or not."""
        return self.checkpoints / f"{images_seen:012d}"

    def all_checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return all_checkpoints(self.path)

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint after the most images."""
        return latest_checkpoint(self.path)

    def keep_checkpoints(self, count: int) -> None:
        """Removes all checkpoints but the latest `count`."""
        for path in self.all_checkpoints()[:-count]:
            shutil.rmtree(path)

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to the training log."""
        with storage_errors(self._log_file):
            self.path.mkdir(parents=True, exist_ok=True)
            with self._log_file.open("a") as file:
                file.write(json.dumps(record) + "\n")

    def training_log(self) -> list[dict[str, Any]]:
        """All records of the training log; an incomplete last line of a killed process is left out."""
        if not self._log_file.exists():
            return []
        records = []
        for line in self._log_file.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def truncate_log(self, images_seen: int) -> None:
        """Drops the records after so many images, which a resumed training writes again."""
        kept = [record for record in self.training_log() if record["images_seen"] <= images_seen]
        write_atomically(self._log_file, "".join(json.dumps(record) + "\n" for record in kept))

    def locked(self) -> AbstractContextManager[None]:
        """Holds the training, so that no two processes train it at once. Raises: IntegrityError if another one does."""
        return locked(self.path, ".lock", "another process trains this; wait for it", also=(self.checkpoints,))


class SampleFolder(_StageFolder):
    """The folder of the samples of one name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.grid_file = path / "grid.png"


class RunFolder:
    """The folder of one arm and seed. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self._run_file = path / RUN_RECORD

    def samples(self, name: str) -> SampleFolder:
        """The folder of the samples of one name."""
        return SampleFolder(self.path / "samples" / name)

    def value_file(self, key: str) -> Path:
        """The file of one value. Args: key: `metric` or `sampling/metric`."""
        return self.path / "values" / f"{key}.json"

    def manifest(self) -> Manifest | None:
        """The recorded parts of the run, None before it was started."""
        record = read_record(self._run_file)
        return Manifest(**{**record, "values": [ValueEntry(**entry) for entry in record["values"]]}) if record else None

    def write_manifest(self, manifest: Manifest) -> None:
        """Records the parts of the run."""
        write_record(self._run_file, {**manifest._asdict(), "values": [entry._asdict() for entry in manifest.values]})

    def training(self) -> TrainingFolder | None:
        """The folder of the recorded training, None before the run was started."""
        manifest = self.manifest()
        return TrainingFolder(Path(os.path.normpath(self.path / manifest.training))) if manifest else None


class ExperimentFolder:
    """The folder of all arms. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report_file = path / "report.html"
        self.record_file = path / "experiment.json"

    def run(self, arm: str, seed: int, first_seed: int) -> RunFolder:
        """The folder of one arm and seed."""
        folder = self.path / arm
        return RunFolder(folder if seed == first_seed else folder / f"seed-{seed}")

    def runs(self) -> dict[str, dict[int, RunFolder]]:
        """Folders of every arm by seed, as `experiment.json` lists them."""
        record = read_record(self.record_file)
        seeds = record.get("seeds", [])
        return {arm: {seed: self.run(arm, seed, seeds[0]) for seed in seeds} for arm in record.get("arms", [])}

    def training(self, digest: str) -> TrainingFolder:
        """The folder of the training of a digest."""
        return TrainingFolder(self.path / TRAININGS / digest[:DIGEST_LENGTH])

    def trainings(self) -> list[TrainingFolder]:
        """Folders of all trainings that were started."""
        return [TrainingFolder(path) for path in sorted((self.path / TRAININGS).glob("[0-9a-f]*"))]

    def check(self) -> None:
        """Raises: IntegrityError if the folder holds runs of an earlier layout."""
        record = read_record(self.record_file)
        if record and record.get("layout") != LAYOUT:
            mend = "run again into another folder with --out, or remove this one"
            raise IntegrityError(f"{self.path}: holds runs in a layout that is no longer read; {mend}")

    def locked(self) -> AbstractContextManager[None]:
        """Holds the folder, so that two processes never write it at once. Raises: IntegrityError if another one does."""
        held = "another etsdm run is writing here; wait for it, or give another folder with --out"
        return locked(self.path, ".lock", held, also=(Path(folder) for folder, _, _ in os.walk(self.path)))
