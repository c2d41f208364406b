"""The stage that trains a denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from etsdm.checkpoints.format import Weights, check_checkpoint, load_first_stage, read_checkpoint
from etsdm.data import Files
from etsdm.denoisers.denoiser import Denoiser
from etsdm.devices import resolve_device
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.recipe import Recipe, fingerprint, to_yaml
from etsdm.runs.changes import reasons
from etsdm.runs.continuation import Start, differs_in_length_alone, starts
from etsdm.runs.environment import environment
from etsdm.runs.folder import TrainingFolder
from etsdm.runs.records import StageRecord
from etsdm.runs.stages import Progress, Stage, StagePlan
from etsdm.training import Trainer

__all__ = ["Train"]

MOST_WORKERS = 8  # threads that read images ahead, unless a recipe says otherwise


@dataclass(frozen=True)
class Train(Stage):
    """Trains the denoiser of one arm and seed.

    Attributes:
        recipe: of the arm.
        arm, seed: of the run, for the checkpoint's record.
        digest: names the training.
        depends_on: all that the digest is made of.
        inputs: files that the training reads, for the checkpoint's record.
        folder: of the training.
        others: lists the folders of all trainings of the experiment.
    """

    kind: ClassVar[str] = "train"
    unit: ClassVar[str] = "images"

    recipe: Recipe
    arm: str
    seed: int
    digest: str
    depends_on: Mapping[str, Any]
    inputs: Mapping[str, Files]
    folder: TrainingFolder
    others: Callable[[], list[TrainingFolder]]

    def is_done(self) -> bool:
        return self._is_recorded() and not self._damage(self._last)

    def plan(self, previous: TrainingFolder | None) -> StagePlan:
        """What is left of the training.

        Args:
            previous: the run's training before this one, if it has a checkpoint.
        """
        total = self.recipe.training.images
        if self.is_done():
            return StagePlan(self.kind, "", total, total, self.unit, finished=True)
        start = next(self._whole_starts(), None)
        done = start.images if start else 0
        planned = StagePlan(self.kind, "", done, total, self.unit, finished=False, again=tuple(self._reasons(previous, start)))
        if start is not None and start.digest != self.digest:
            planned = planned._replace(goes_on_from=f"{start.folder.path.name}/{start.checkpoint.name}")
        return planned

    def _is_recorded(self) -> bool:
        """Whether the training has the record of a finished one."""
        record = self.folder.finished()
        return record is not None and record.digest == self.digest

    def _reasons(self, previous: TrainingFolder | None, start: Start | None) -> list[str]:
        if self._is_recorded():
            return [self._damage(self._last)]
        recorded = previous.dependencies() if previous else None
        if previous is None or previous.path == self.folder.path:
            return []
        found = reasons(recorded.depends_on if recorded else {}, self.depends_on)
        if start is None and recorded is not None and differs_in_length_alone(recorded.depends_on, self.depends_on):
            schedule = self.recipe.training.lr_schedule
            if schedule.uses_length:
                found.append(f"the learning rate of training.lr_schedule {schedule.type_name} depends on it")
            else:
                found.append("no checkpoint that this training passes through is kept")
        return found

    def run(self) -> Iterator[Progress]:
        with self.folder.locked():
            yield from self._train()

    def _train(self) -> Iterator[Progress]:
        for done, total in self.recipe.data.check_files():
            yield Progress(self.kind, "check images", done, total, self.unit)
        if passed_over := self.recipe.data.passed_over():
            first = next(iter(passed_over.values()))
            message = f"data: {len(passed_over)} images cannot be used and are passed over; the report lists them. The first: {first}"
            warnings.warn(message, stacklevel=2)
        folder, training = self.folder, self.recipe.training
        machine: dict[str, str | int] = {**environment(), "device": str(self.device), "threads": torch.get_num_threads()}
        folder.start(self.digest, to_yaml(self.recipe), machine, self.depends_on)
        trainer = self._trainer()
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
        if not self._last.exists():  # the length of a checkpoint of another training
            trainer.save(self._last, **origin)
        folder.keep_checkpoints(training.keep_checkpoints)
        rates = sorted(record["images_per_second"] for record in trainer.log)
        facts = {"images_per_second": rates[len(rates) // 2], "data_scale": trainer.check_data().record()}
        facts["passed_over"] = passed_over
        # Of all processes that trained it, as far as their checkpoints go.
        seconds = round(sum(record["seconds"] for record in trainer.log), 2)
        folder.finish(StageRecord(digest=self.digest, seconds=seconds, facts=facts, log=trainer.log))

    def _trainer(self) -> Trainer:
        """A trainer at the latest whole checkpoint, of this training or of one of another length, else at the beginning.

        Damaged ones of this training are kept under another name, with a warning. Raises: the latest's error if all are damaged.
        """
        damaged: dict[Path, str] = {}
        for start in self._starts():
            trainer = self._new_trainer()
            try:
                # No other process removes the checkpoint meanwhile; this training is locked already.
                with start.folder.locked() if start.digest != self.digest else nullcontext():
                    self._check(start.checkpoint, start.digest)
                    trainer.restore(start.checkpoint)
            except (CheckpointError, IntegrityError) as error:
                if start.digest == self.digest:
                    damaged[start.checkpoint] = str(error)
                continue
            for other, reason in damaged.items():
                kept = self.folder.set_aside(other)
                message = f"{other}: this checkpoint is damaged, and kept as {kept.name}; training goes on from {start.checkpoint.name}"
                warnings.warn(f"{message} ({reason})", stacklevel=2)
            return trainer
        if damaged:
            mend = f"no earlier checkpoint is whole: without one, remove {self.folder.checkpoints} to train from the start"
            raise IntegrityError(f"{next(iter(damaged.values()))}; {mend}")
        trainer = self._new_trainer()
        if weights := self._first_stage_weights:
            load_first_stage(trainer.denoiser, weights)
        return trainer

    def _new_trainer(self) -> Trainer:
        recipe = self.recipe
        workers = min(torch.get_num_threads(), MOST_WORKERS) if recipe.compute.workers is None else recipe.compute.workers
        images = recipe.data.open("train")
        trainer = Trainer(recipe.model, recipe.training, images, seed=self.seed, device=self.device, workers=workers)
        recipe.compute.prepare(trainer.denoiser.backbone)
        return trainer

    def _starts(self) -> list[Start]:
        """Checkpoints that the training can go on from, its own and those of trainings of another length, after the most images first."""
        own = [Start(self.folder, self.digest, path, int(path.name)) for path in reversed(self.folder.all_checkpoints())]
        others = starts(self.depends_on, self.recipe.training, self.others())
        return sorted([*own, *others], key=lambda start: start.images, reverse=True)

    def _whole_starts(self) -> Iterator[Start]:
        return (start for start in self._starts() if not self._damage(start.checkpoint, start.digest))

    @property
    def _last(self) -> Path:
        """The checkpoint at the end of training."""
        return self.folder.checkpoint_at(self.recipe.training.images)

    def _damage(self, checkpoint: Path, digest: str | None = None) -> str:
        """What is wrong with a checkpoint, empty if nothing is. Args: digest: of its training, this one by default."""
        try:
            self._check(checkpoint, digest or self.digest)
        except (CheckpointError, IntegrityError) as error:
            return str(error)
        return ""

    def _check(self, checkpoint: Path, digest: str) -> None:
        """Verifies a checkpoint. Raises: CheckpointError or IntegrityError if it is damaged, or not of the training of a digest."""
        facts = check_checkpoint(checkpoint).facts
        expected = {"train_digest": digest, "images_seen": int(checkpoint.name)}
        if any(facts.get(key) != value for key, value in expected.items()):
            raise IntegrityError(f"{checkpoint}: holds another training's checkpoint, or of another time; copy this one again")

    def load_denoiser(self, weights: Weights = "ema") -> Denoiser:
        """Reads the trained denoiser, in eval mode; before the end of training, the one that training starts from.

        Where the weights of a first stage are missing, they are initialised at random like the others.
        """
        # A finished training whose checkpoint is gone is no untrained one.
        if self._last.exists() or self.folder.finished():
            self._check(self._last, self.digest)
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
