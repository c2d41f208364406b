"""Stages of a run: train a denoiser, draw samples by name, evaluate metrics.

Each stage is an object with a digest of what it depends on (`etsdm.runs.digests`), `is_done()`, which compares that with the records on
disk, and `run()`, an iterator of its progress. A killed stage resumes where it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

__all__ = ["STAGES", "Progress", "Stage", "StagePlan"]

STAGES = ("train", "sample", "evaluate")


class Progress(NamedTuple):
    """Progress of a run.

    Fields: stage, its kind; label; done of total, in `unit`s; reused, whether the stage was found finished; loss, the mean training loss of
    the latest log record, None elsewhere.
    """

    stage: str
    label: str
    done: int
    total: int
    unit: str
    reused: bool = False
    loss: float | None = None


class StagePlan(NamedTuple):
    """What is left of a stage, or of one metric.

    Fields: kind, one of `STAGES`; name, empty for the training, else of the samples or of the metric's result; done of total, in `unit`s;
    finished; again, reasons why it is done again although there is an earlier result; goes_on_from, the checkpoint of a training of
    another length where this one begins.
    """

    kind: str
    name: str
    done: int
    total: int
    unit: str
    finished: bool
    again: tuple[str, ...] = ()
    goes_on_from: str | None = None


class Stage(ABC):
    """One step of a run. Attributes: kind, one of `STAGES`; unit of its progress; label; digest of what it depends on."""

    kind: ClassVar[str]
    unit: ClassVar[str]
    digest: str

    @property
    def label(self) -> str:
        """Its kind, and the name of the samples where the recipe names them."""
        return self.kind

    @abstractmethod
    def is_done(self) -> bool:
        """Whether its records and files are on disk and carry its digest."""

    @abstractmethod
    def run(self) -> Iterator[Progress]:
        """Does what is missing and yields progress."""

    def progress(self, done: int, total: int, *, reused: bool = False) -> Progress:
        """Progress of this stage."""
        return Progress(self.kind, self.label, done, total, self.unit, reused)
