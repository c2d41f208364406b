"""The stage that trains a denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from etsdm.checkpoints.format import Weights, check_checkpoint, load_first_stage, read_checkpoint
from etsdm.data import Files
from etsdm.denoisers.denoiser import Denoiser
from etsdm.devices import resolve_device
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.recipe import Recipe, fingerprint, to_yaml
from etsdm.runs.environment import environment
from etsdm.runs.folder import TrainingFolder
from etsdm.runs.records import StageRecord
from etsdm.runs.stages import Progress, Stage
from etsdm.training import Trainer

__all__ = ["Train"]


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
        facts = {"images_per_second": rates[len(rates) // 2]}
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
