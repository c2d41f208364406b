"""What a run leaves on disk: its paths and records, read and written here only.

    runs/<experiment>/
        experiment.json            name, arms and seeds, and what the report was made from
        report.html
        <arm>/                     the first seed; other seeds in <arm>/seed-<k>/
            recipe.yaml            fully resolved
            environment.json       versions and machine
            stages.json            what is finished, and the digest of what it depends on
            metrics.jsonl          training log, one record a line
            checkpoints/<images_seen>/
            samples/               tensors of some images each, digest.txt that says whose, grid.png of the first ones
            evaluation.json        every measured value with its protocol
            superseded/<digest>/   what an earlier recipe in this folder left

Every write is atomic; `metrics.jsonl` is appended to, and cut back to the last checkpoint when a killed training goes on.
"""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.checkpoints.latest import CHECKPOINTS, all_checkpoints, latest_checkpoint
from etsdm.storage.files import locked, read_record, write_atomically, write_record

__all__ = ["ExperimentFolder", "RunFolder", "StageRecord"]

DIGEST_LENGTH = 12  # hex digits in names of folders


class StageRecord(NamedTuple):
    """A finished stage. Fields: digest of what it depends on; seconds it took; facts, JSON values for the summary."""

    digest: str
    seconds: float
    facts: dict[str, Any]


class RunFolder:
    """The folder of one arm and seed. Args: path: need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.environment_file = path / "environment.json"
        self.checkpoints = path / CHECKPOINTS
        self.samples = path / "samples"
        self.grid_file = self.samples / "grid.png"
        self.evaluation_file = path / "evaluation.json"
        self._stages_file = path / "stages.json"
        self._metrics_file = path / "metrics.jsonl"

    def checkpoint_at(self, images_seen: int) -> Path:
        """Where the checkpoint after so many images is or will be."""
        return self.checkpoints / f"{images_seen:012d}"

    def all_checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return all_checkpoints(self.path)

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint after the most images."""
        return latest_checkpoint(self.path)

    def keep_checkpoints(self, count: int) -> None:
        """Removes all but the latest `count`, and what a killed process left of one that it was writing."""
        for path in (*self.all_checkpoints()[:-count], *self.checkpoints.glob(".*.tmp")):
            shutil.rmtree(path)

    def stage(self, name: str) -> StageRecord | None:
        """The record of a finished stage."""
        record = read_record(self._stages_file).get(name)
        return StageRecord(**record) if record else None

    def finish_stage(self, name: str, record: StageRecord) -> None:
        """Records that a stage is finished."""
        stages = {**read_record(self._stages_file), name: record._asdict()}
        write_record(self._stages_file, stages)

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to the training log."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._metrics_file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def training_log(self) -> list[dict[str, Any]]:
        """All records of the training log; a last line that a kill cut short is left out."""
        if not self._metrics_file.exists():
            return []
        records = []
        for line in self._metrics_file.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def cut_log(self, images_seen: int) -> None:
        """Drops the records after so many images, which a resumed training will write again."""
        kept = [record for record in self.training_log() if record["images_seen"] <= images_seen]
        write_atomically(self._metrics_file, "".join(json.dumps(record) + "\n" for record in kept))

    def supersede(self, digest: str) -> None:
        """Moves what an earlier recipe left here to `superseded/`, so that nothing that was trained is lost."""
        target = self._superseded(digest)
        target.mkdir(parents=True, exist_ok=True)  # it exists where this was killed before
        for path in self._contents():
            if path.exists():
                path.rename(target / path.name)

    def bring_back(self, digest: str) -> None:
        """Undoes `supersede` for a training that is asked for again; does nothing if there is none."""
        source = self._superseded(digest)
        if source.exists():
            for path in self._contents():
                if (source / path.name).exists():
                    # Left by a run that was stopped before its first checkpoint.
                    if path.is_dir():
                        shutil.rmtree(path)
                    path.unlink(missing_ok=True)
                    (source / path.name).rename(path)
            source.rmdir()

    def _superseded(self, digest: str) -> Path:
        return self.path / "superseded" / digest[:DIGEST_LENGTH]

    def _contents(self) -> tuple[Path, ...]:
        """What a training leaves; the checkpoints, by which it is known, move last."""
        files = (self._stages_file, self._metrics_file, self.evaluation_file, self.recipe_file, self.environment_file)
        return (*files, self.samples, self.checkpoints)


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

    def locked(self) -> AbstractContextManager[None]:
        """Holds the folder, so that two processes never write it at once. Raises: IntegrityError if another one does."""
        return locked(self.path, ".lock", "another etsdm run is writing here; wait for it, or give another folder with --out")
