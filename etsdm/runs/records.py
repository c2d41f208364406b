"""Records of a run's folder: one model a file."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from etsdm.checkpoints.latest import TrainingOfRun
from etsdm.metrics import MetricResult
from etsdm.storage.records import Record

__all__ = ["LAYOUT", "EnvironmentRecord", "ExperimentRecord", "Manifest", "StageRecord", "ValueEntry", "ValueRecord"]

LAYOUT = 3  # raise it when folders of before cannot be read


class StageRecord(Record):
    """A finished stage.

    Fields: digest of what it depends on; seconds it took; facts, JSON values for the summary; log, records of a training; depends_on,
    all that the digest is made of, empty for a training, whose environment.json has it.
    """

    digest: str
    seconds: float
    facts: dict[str, Any]
    log: list[dict[str, Any]] = Field(default_factory=list)
    depends_on: dict[str, Any] = Field(default_factory=dict)


class ValueEntry(Record):
    """A value file of a run. Fields: metric, name of the metric; sampling, name of the measured samples or None; file; digest."""

    metric: str
    sampling: str | None
    file: str
    digest: str


class Manifest(TrainingOfRun):
    """Parts of a run.

    Fields: arm, seed and training, path of its folder; experiment, its name; recipe, sha256 of `recipe.yaml`; train, digest of the
    training; samples, digests by name; values, one entry a file; earlier, path of the latest training before this one that has a
    checkpoint.
    """

    model_config = ConfigDict(extra="forbid")

    experiment: str
    recipe: str
    train: str
    samples: dict[str, str]
    values: list[ValueEntry]
    earlier: str | None = None


class EnvironmentRecord(Record):
    """Machine and versions of a training, and what it depends on.

    Fields: digest of the training; recipe, sha256 of `recipe.yaml`; environment; depends_on, all that the digest is made of.
    """

    MEND: ClassVar[str] = "remove it and the stage.json beside it, and run the recipe again, which trains no further"

    digest: str
    recipe: str
    environment: dict[str, str | int]
    depends_on: dict[str, Any] = Field(default_factory=dict)


class ValueRecord(Record):
    """A measured metric. Fields: digest of what it depends on; seconds; protocol and its digest; result; depends_on, as of a stage."""

    digest: str
    seconds: float
    protocol: dict[str, Any]
    protocol_digest: str
    result: MetricResult
    depends_on: dict[str, Any] = Field(default_factory=dict)


class ExperimentRecord(Record):
    """Arms and seeds of an experiment.

    Fields: name; description; arms; seeds; report, digest of what the report shows, None without one; report_sha256 of its file.
    """

    FORMAT: ClassVar[int] = LAYOUT
    OTHER_FORMAT: ClassVar[str] = "run again into another folder with --out, or remove this one"

    name: str
    description: str
    arms: list[str]
    seeds: list[int]
    report: str | None = None
    report_sha256: str | None = None
