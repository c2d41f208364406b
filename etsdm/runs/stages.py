"""Stages of a run: train a denoiser, draw samples by name, evaluate metrics.

Each stage is an object with a digest of what it depends on (`etsdm.runs.digests`), `is_done()`, which compares that with the records on
disk, and `run()`, an iterator of its progress. A killed stage resumes where it was.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from etsdm.checkpoints.format import Weights, check_checkpoint, load_first_stage, read_checkpoint
from etsdm.data import Files
from etsdm.denoisers.denoiser import Denoiser
from etsdm.devices import resolve_device
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.metrics import EvaluationInputs, Metric, MetricResult, data_protocol, sampling_protocol, value_protocol
from etsdm.recipe import Recipe, fingerprint, to_yaml
from etsdm.runs.environment import environment
from etsdm.runs.folder import SampleFolder, TrainingFolder
from etsdm.runs.records import StageRecord, ValueRecord
from etsdm.sampling import Conditions, ReducedImages, SampledImages, SamplingTask, TensorStore, generate_missing
from etsdm.sampling.config import DEFAULT_SAMPLING, Sampling
from etsdm.storage.files import digest_of
from etsdm.storage.images import PREVIEW_IMAGES, image_grid
from etsdm.storage.records import read_record, write_record
from etsdm.training import Trainer

__all__ = ["STAGES", "Evaluate", "Measurement", "Progress", "Sample", "Stage", "Train"]

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


@dataclass(frozen=True)
class Train(Stage):
    """Trains the denoiser of one arm and seed.

    Attributes:
        recipe: of the arm.
        arm, seed: of the run, for the checkpoint's record.
        digest: names the training.
        inputs: files that the training reads, for the checkpoint's record.
        folder: of the training.
    """

    kind: ClassVar[str] = "train"
    unit: ClassVar[str] = "images"

    recipe: Recipe
    arm: str
    seed: int
    digest: str
    inputs: Mapping[str, Files]
    folder: TrainingFolder

    def is_done(self) -> bool:
        record = self.folder.finished()
        if record is None or record.digest != self.digest:
            return False
        try:
            self._check(self._last)
        except (CheckpointError, IntegrityError):
            return False
        return True

    def run(self) -> Iterator[Progress]:
        with self.folder.locked():
            yield from self._train()

    def _train(self) -> Iterator[Progress]:
        for done, total in self.recipe.data.check_files():
            yield Progress(self.kind, "check images", done, total, self.unit)
        folder, training = self.folder, self.recipe.training
        machine: dict[str, str | int] = {**environment(), "device": str(self.device), "threads": torch.get_num_threads()}
        folder.start(self.digest, to_yaml(self.recipe), machine)
        trainer = Trainer(self.recipe.model, training, self.recipe.data.open("train"), seed=self.seed, device=self.device)
        self.recipe.compute.prepare(trainer.denoiser.backbone)
        if not self._restore(trainer) and (weights := self._first_stage_weights):
            load_first_stage(trainer.denoiser, weights)
        folder.restart_log(trainer.log)
        yield self.progress(trainer.images_seen, training.images)
        inputs = {name: files._asdict() for name, files in self.inputs.items()}
        origin = {"train_digest": self.digest, "inputs": inputs, "recipe": fingerprint(self.recipe), "arm": self.arm, "seed": self.seed}
        for progress in trainer.run(folder.checkpoint_at, **origin):
            if progress.record:
                folder.log(progress.record)
                folder.keep_checkpoints(training.keep_checkpoints)
            loss = trainer.log[-1]["loss"] if trainer.log else None
            yield self.progress(progress.images_seen, training.images)._replace(loss=loss)
        folder.keep_checkpoints(training.keep_checkpoints)
        rates = sorted(record["images_per_second"] for record in trainer.log)
        facts = {"images_per_second": rates[len(rates) // 2], "data_scale": trainer.check_data().record()}
        # Of all processes that trained it, as far as their checkpoints go.
        seconds = round(sum(record["seconds"] for record in trainer.log), 2)
        folder.finish(StageRecord(digest=self.digest, seconds=seconds, facts=facts, log=trainer.log))

    def _restore(self, trainer: Trainer) -> bool:
        """Goes on from the latest whole checkpoint. Returns: whether there is one.

        Damaged ones after it are kept under another name, with a warning. Raises: the latest's error if all are damaged.
        """
        damaged: dict[Path, CheckpointError | IntegrityError] = {}
        for checkpoint in reversed(self.folder.all_checkpoints()):
            try:
                self._check(checkpoint)
                trainer.restore(checkpoint)
            except (CheckpointError, IntegrityError) as error:
                damaged[checkpoint] = error
                continue
            for other, reason in damaged.items():
                kept = self.folder.set_aside(other)
                message = f"{other}: this checkpoint is damaged, and kept as {kept.name}; training goes on from {checkpoint.name}"
                warnings.warn(f"{message} ({reason})", stacklevel=2)
            return True
        if damaged:
            mend = f"no earlier checkpoint is whole: without one, remove {self.folder.checkpoints} to train from the start"
            raise IntegrityError(f"{next(iter(damaged.values()))}; {mend}")
        return False

    @property
    def _last(self) -> Path:
        """The checkpoint at the end of training."""
        return self.folder.checkpoint_at(self.recipe.training.images)

    def _check(self, checkpoint: Path) -> None:
        """Verifies a checkpoint of this training. Raises: CheckpointError or IntegrityError if it is damaged or of another training."""
        facts = check_checkpoint(checkpoint).facts
        expected = {"train_digest": self.digest, "images_seen": int(checkpoint.name)}
        if any(facts.get(key) != value for key, value in expected.items()):
            raise IntegrityError(f"{checkpoint}: holds another training's checkpoint, or of another time; copy this one again")

    def load_denoiser(self, weights: Weights = "ema") -> Denoiser:
        """Reads the trained denoiser, in eval mode; before the end of training, the one that training starts from.

        Where the weights of a first stage are missing, they are initialised at random like the others.
        """
        # A finished training whose checkpoint is gone is no untrained one.
        if self._last.exists() or self.folder.finished():
            self._check(self._last)
            denoiser = read_checkpoint(self._last, self.device, weights=weights).denoiser
        else:
            denoiser = self.recipe.model.build(self.seed, self.device).eval()
            if first_stage := self._first_stage_weights:
                load_first_stage(denoiser, first_stage)
        self.recipe.compute.prepare(denoiser.backbone)
        return denoiser

    @property
    def device(self) -> torch.device:
        """The recipe's device."""
        return resolve_device(self.recipe.compute.device)

    @property
    def _first_stage_weights(self) -> Path | None:
        """The existing weights file of the first stage."""
        weights = self.recipe.training.first_stage_weights
        return Path(weights) if self.recipe.model.first_stage is not None and weights and Path(weights).is_file() else None


@dataclass(frozen=True)
class Sample(Stage):
    """Draws the samples of one name.

    Attributes:
        recipe: of the arm.
        name: of the samples.
        sampling: section of the recipe.
        digest: of training and sampling.
        folder: of the samples.
        load_denoiser: reads the trained denoiser with the averaged or the current weights.
    """

    kind: ClassVar[str] = "sample"
    unit: ClassVar[str] = "images"

    recipe: Recipe
    name: str
    sampling: Sampling
    digest: str
    folder: SampleFolder
    load_denoiser: Callable[[Weights], Denoiser]

    @property
    def label(self) -> str:
        return self.kind if self.name == DEFAULT_SAMPLING else f"{self.kind} {self.name}"

    @property
    def images(self) -> SampledImages:
        """The drawn samples, with their labels, read when needed."""
        return SampledImages(self._store, self.sampling.n, self._conditions.class_labels)

    def is_done(self) -> bool:
        record = self.folder.finished()
        finished = record is not None and record.digest == self.digest and self.folder.has_grid(self.digest)
        return finished and not self._store.missing(range(self.sampling.n))

    def run(self) -> Iterator[Progress]:
        clock, sampling = time.perf_counter(), self.sampling
        denoiser = sampling.guided(self.load_denoiser(sampling.weights))
        self._store.open()
        task = SamplingTask(denoiser, sampling.sampler, sampling.seed, self._conditions)
        for progress in generate_missing(task, self._store, n=sampling.n, batch_size=sampling.batch_size):
            yield self.progress(progress.done, sampling.n)
        first = self.images.batch(range(min(sampling.n, PREVIEW_IMAGES))).pixels
        origin = {"seed": str(sampling.seed), "sampler": sampling.sampler.model_dump_json(), "recipe": fingerprint(self.recipe)}
        self.folder.write_grid(image_grid(first), digest=self.digest, **origin)
        facts = {"nfe": sampling.sampler.plan(denoiser).nfe, "weights": sampling.weights}
        self.folder.finish(StageRecord(digest=self.digest, seconds=_seconds_since(clock), facts=facts))

    @property
    def _store(self) -> TensorStore:
        return TensorStore(self.folder.path, self.digest)

    @cached_property
    def _conditions(self) -> Conditions:
        """Labels in turn, and low-resolution versions of held-out images in turn."""
        model, data = self.recipe.model, self.recipe.data
        labels = (self.sampling.labels or range(data.num_classes)) if model.backbone.num_classes else None
        if model.super_resolution is None:
            return Conditions(labels)
        return Conditions(labels, ReducedImages(data.open("test"), model.super_resolution))


@dataclass(frozen=True)
class Measurement:
    """One metric of a denoiser or of one set of samples.

    Attributes:
        name: of the metric.
        metric: with its settings.
        sample: stage of the samples that are measured; the first for a metric that measures none.
        digest: of training or samples, metric and seed.
        file: of the result.
    """

    name: str
    metric: Metric
    sample: Sample
    digest: str
    file: Path

    @property
    def sampling(self) -> str | None:
        """Name of the measured samples, None for a metric that measures none."""
        return self.sample.name if self.metric.uses_samples else None

    def is_done(self) -> bool:
        """Whether the result is on disk."""
        return self.result() is not None

    def result(self) -> MetricResult | None:
        """The result, None before it was measured."""
        record = read_record(self.file, ValueRecord)
        return record.result if record is not None and record.digest == self.digest else None


@dataclass(frozen=True)
class Evaluate(Stage):
    """Measures every metric of a run that has no result yet.

    Attributes:
        recipe: of the arm.
        measurements: all of the run.
        inputs: files that the training reads, for the protocols.
        load_denoiser: reads the trained denoiser with the averaged or the current weights.
    """

    kind: ClassVar[str] = "evaluate"
    unit: ClassVar[str] = "metrics"

    recipe: Recipe
    measurements: tuple[Measurement, ...]
    inputs: Mapping[str, Files]
    load_denoiser: Callable[[Weights], Denoiser]

    @property
    def digest(self) -> str:  # type: ignore[override]
        """Digest of the results' digests."""
        return digest_of([one.digest for one in self.measurements])

    def is_done(self) -> bool:
        return all(one.is_done() for one in self.measurements)

    def run(self) -> Iterator[Progress]:
        todo, total = [one for one in self.measurements if not one.is_done()], len(self.measurements)
        data, seed, weights = self.recipe.data, self.recipe.evaluation.seed, self.recipe.evaluation.weights
        denoiser, train, test, read = self.load_denoiser(weights), data.open("train"), data.open("test"), data_protocol(data)
        yield self.progress(total - len(todo), total)
        for left, one in zip(range(len(todo) - 1, -1, -1), todo, strict=True):
            clock = time.perf_counter()
            result = one.metric.compute(EvaluationInputs(denoiser, one.sample.images, train, test, seed, self.recipe.evaluation.edges))
            samples = sampling_protocol(one.sample.sampling, self.recipe.model) if one.metric.uses_samples else None
            of = one.sample.sampling.weights if one.metric.uses_samples else weights
            parts = {} if one.metric.uses_samples else self._denoiser_protocol(one.metric)
            protocol = value_protocol(one.metric, weights=of, denoiser=parts, seed=seed, data=read, samples=samples, versions=environment())
            record = ValueRecord(
                digest=one.digest, seconds=_seconds_since(clock), protocol=protocol, protocol_digest=digest_of(protocol), result=result
            )
            write_record(one.file, record)
            yield self.progress(total - left, total)

    def _denoiser_protocol(self, metric: Metric) -> dict[str, Any]:
        weights = self.inputs.get("first_stage_weights")
        found = {**metric.denoiser_protocol(self.recipe.model), "edges": self.recipe.evaluation.edges}
        return found if weights is None else {**found, "first_stage_weights": weights.content}


def _seconds_since(clock: float) -> float:
    return round(time.perf_counter() - clock, 2)
