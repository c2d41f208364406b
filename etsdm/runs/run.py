"""`Run`: one arm with one seed, its stages composed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

from etsdm.checkpoints.format import DENOISER_FILE, DenoiserRecord, Weights
from etsdm.data import Files
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import DataError, IntegrityError, PartError, RecipeError
from etsdm.metrics import MetricResult
from etsdm.recipe import Recipe, to_yaml
from etsdm.runs.digests import StageDependencies, StageDigests, find_inputs, stage_dependencies, stage_digests, with_recorded
from etsdm.runs.evaluate import Evaluate, Measurement
from etsdm.runs.folder import ExperimentFolder, TrainingFolder
from etsdm.runs.records import Manifest, ValueEntry, ValueRecord
from etsdm.runs.sample import Sample
from etsdm.runs.stages import STAGES, Progress, Stage, StagePlan
from etsdm.runs.threads import threads_set
from etsdm.runs.train import Train
from etsdm.sampling import SampledImages
from etsdm.sampling.config import DEFAULT_SAMPLING
from etsdm.storage.faults import storage_errors
from etsdm.storage.records import read_record

__all__ = ["Run"]


class Run:
    """One arm with one seed.

    Args:
        arm: name of the arm.
        recipe: of the arm.
        seed: one of the recipe's seeds.
        experiment: folder of all arms.
    """

    def __init__(self, arm: str, recipe: Recipe, seed: int, experiment: ExperimentFolder) -> None:
        self.arm = arm
        self.recipe = recipe
        self.seed = seed
        self.experiment = experiment
        self.folder = experiment.run(arm, seed, recipe.seeds[0])

    def __repr__(self) -> str:
        return f"Run({self.label!r} in {str(self.folder.path)!r})"

    @property
    def label(self) -> str:
        """The arm, and the seed where the recipe has several."""
        return self.arm if len(self.recipe.seeds) == 1 else f"{self.arm} seed {self.seed}"

    @cached_property
    def inputs(self) -> dict[str, Files]:
        """Files that training reads; the content of missing ones is the recorded one of an existing training that fits."""
        found = find_inputs(self.recipe)
        if all(files.content is not None for files in found.values()):
            return found
        own = self.folder.training()
        for training in [*([own] if own else []), *self.experiment.trainings()]:
            filled = with_recorded(found, _recorded_inputs(training))
            digest = stage_digests(stage_dependencies(self.recipe, self.seed, filled)).train
            if filled != found and self.experiment.training(digest).latest_checkpoint():
                return filled
        return found

    @cached_property
    def dependencies(self) -> StageDependencies:
        """All that each stage depends on."""
        return stage_dependencies(self.recipe, self.seed, self.inputs)

    @cached_property
    def digests(self) -> StageDigests:
        """Digests of what each stage depends on."""
        return stage_digests(self.dependencies)

    @cached_property
    def train(self) -> Train:
        """The training stage."""
        digest, depends_on, experiment = self.digests.train, self.dependencies.train, self.experiment
        folder = experiment.training(digest)
        return Train(self.recipe, self.arm, self.seed, digest, depends_on, self.inputs, folder, experiment.trainings)

    def stages(self) -> list[Stage]:
        """All stages in order. They share the denoiser, which is read once, by the first that needs it."""
        load = cache(self.load_denoiser)
        digests, depends_on = self.digests, self.dependencies
        samples = {
            name: Sample(self.recipe, name, sampling, digests.samples[name], depends_on.samples[name], self.folder.samples(name), load)
            for name, sampling in self.recipe.samplings.items()
        }
        measurements = []
        for name, metric in zip(self.recipe.evaluation.names, self.recipe.evaluation.metrics, strict=True):
            for sample in samples.values() if metric.uses_samples else list(samples.values())[:1]:
                key = f"{sample.name}/{metric.file_stem}" if metric.uses_samples else metric.file_stem
                file = self.folder.value_file(key)
                measurements.append(Measurement(name, metric, sample, digests.values[key], depends_on.values[key], file))
        return [self.train, *samples.values(), Evaluate(self.recipe, tuple(measurements), self.inputs, load)]

    def plan(self, kinds: tuple[str, ...] = STAGES) -> list[StagePlan]:
        """Remaining work of each stage and metric, with the reasons. Writes nothing. Args: kinds: of stages."""
        stages, manifest = self.stages(), self.folder.manifest()
        train = self.train.plan(self._previous_training(manifest))
        samples = {stage.name: stage.plan(trained=train.finished) for stage in stages if isinstance(stage, Sample)}
        metrics = []
        for one in self._measurements():
            before = "" if train.finished else "new weights"
            if one.sampling is not None:
                before = "" if samples[one.sampling].finished else "new samples"
            metrics.append(one.plan(self._earlier_value(one, manifest), before=before))
        return [planned for planned in (train, *samples.values(), *metrics) if planned.kind in kinds]

    def _previous_training(self, manifest: Manifest | None) -> TrainingFolder | None:
        """The latest training of this run before the one that the recipe needs now, of those with a checkpoint."""
        if manifest is None:
            return None
        places = [manifest.training] if manifest.train != self.digests.train else []
        found = [self.folder.training_at(place) for place in (*places, manifest.earlier) if place]
        return next((training for training in found if training.latest_checkpoint()), None)

    def _earlier_value(self, one: Measurement, manifest: Manifest | None) -> ValueRecord | None:
        """The recorded result of a metric of the same name with other settings."""
        entries = manifest.values if manifest else []
        found = [self.folder.path / entry.file for entry in entries if (entry.metric, entry.sampling) == (one.name, one.sampling)]
        with suppress(IntegrityError):  # a damaged one is none, and not needed
            return next((read_record(file, ValueRecord) for file in found if file != one.file), None)
        return None

    def is_done(self, kind: str) -> bool:
        """Whether all stages of a kind are done."""
        return all(stage.is_done() for stage in self.stages() if stage.kind == kind)

    def check(self, kinds: tuple[str, ...] = STAGES) -> None:
        """Checks that all files are there that unfinished stages need, and opens no image; and that the network fits into memory.

        Raises:
            DataError: a file is missing, or the images do not suffice for a metric.
            RecipeError: the network does not fit.
        """
        todo = [kind for kind in kinds if not self.is_done(kind)]
        if not todo:
            return
        try:
            self.recipe.model.check_memory()
        except PartError as error:
            raise RecipeError(f"model.{error}") from None
        # Samples are drawn without the data, except those that enlarge its images.
        if todo != ["sample"] or not self.train.is_done() or self.recipe.model.super_resolution is not None:
            self.recipe.data.check()
            weights_file = self.train.inputs.get("first_stage_weights")
            sha256 = None if weights_file is None else weights_file.content
            self.recipe.data.check_training(self.recipe.model.first_stage, sha256, self.recipe.training.flip)
        if "evaluate" in todo:
            self._check_images()
        first_stage, weights = self.recipe.model.first_stage, self.recipe.training.first_stage_weights
        if first_stage is None or self.train.folder.latest_checkpoint():
            return
        kind = f"first stage {first_stage.type_name!r}"
        keys = "a safetensors file of its state dict, in the keys of CompVis/latent-diffusion"
        if weights is None:
            raise DataError(f"training.first_stage_weights: none are given for {kind}; give {keys}")
        if not Path(weights).is_file():
            place = Path(weights).absolute()
            raise DataError(f"training.first_stage_weights: {place} is missing; put there the weights of {kind}: {keys}")

    def _check_images(self) -> None:
        """Raises: DataError if a metric without a result needs more or other images."""
        metrics = [one.metric for one in self._measurements() if not one.is_done()]
        data = self.recipe.data.pixels or self.recipe.data
        train, test = data.open("train"), data.open("test")
        for metric in metrics:
            metric.check_images(train, test)

    def run(self, kinds: tuple[str, ...] = STAGES) -> Iterator[Progress]:
        """Runs the stages that are not done, in order, and yields progress.

        Args:
            kinds: of stages; all before the last of them are run as well.
        """
        with storage_errors():
            yield from self._run(STAGES[: max(STAGES.index(kind) for kind in kinds) + 1])

    def _run(self, kinds: tuple[str, ...]) -> Iterator[Progress]:
        self.check(kinds)
        stages = [stage for stage in self.stages() if stage.kind in kinds]
        planned = self.plan(kinds)
        self._record(changed=not all(one.finished for one in planned))
        for one in planned:
            if one.again:
                self.folder.log_redone(f"{one.kind} {one.name}".strip(), one.again)
        with threads_set(self.recipe.compute.threads):
            for stage in stages:
                if stage.is_done():
                    yield stage.progress(1, 1, reused=True)
                else:
                    yield from stage.run()

    def _record(self, *, changed: bool) -> None:
        """Writes the recipe and the manifest, where there is something to do or the manifest is another."""
        training = os.path.relpath(self.train.folder.path, self.folder.path)
        previous = self._previous_training(self.folder.manifest())
        earlier = Path(os.path.relpath(previous.path, self.folder.path)).as_posix() if previous else None
        entries = [
            ValueEntry(metric=one.name, sampling=one.sampling, file=one.file.relative_to(self.folder.path).as_posix(), digest=one.digest)
            for one in self._measurements()
        ]
        recipe = to_yaml(self.recipe)
        manifest = Manifest(
            arm=self.arm,
            seed=self.seed,
            experiment=self.recipe.name,
            training=Path(training).as_posix(),
            recipe=hashlib.sha256(recipe.encode()).hexdigest(),
            train=self.digests.train,
            samples=self.digests.samples,
            values=entries,
            earlier=earlier,
        )
        if changed or manifest != self.folder.manifest() or not self.folder.has_recipe():
            self.folder.write(recipe, manifest)

    def _measurements(self) -> tuple[Measurement, ...]:
        return next(stage.measurements for stage in self.stages() if isinstance(stage, Evaluate))

    def load_denoiser(self, weights: Weights = "ema") -> Denoiser:
        """Reads the trained denoiser, in eval mode; before the end of training, the one that training starts from.

        Args:
            weights: `ema` for the moving average, or `current` for the weights at the end of training.
        """
        return self.train.load_denoiser(weights)

    @property
    def samples(self) -> SampledImages:
        """The samples of the recipe's first sampling section."""
        return self.samples_of(next(iter(self.recipe.samplings)))

    def samples_of(self, name: str) -> SampledImages:
        """The samples of one name, with their labels. Raises: RecipeError if the recipe has no such name."""
        self.recipe.sampling_of(name)
        return next(stage.images for stage in self.stages() if isinstance(stage, Sample) and stage.name == name)

    @property
    def results(self) -> dict[str, MetricResult]:
        """Results of the evaluation, by `metric`, or `sampling/metric` for samples with a name; unmeasured ones are left out."""
        found = {
            one.name if one.sampling in (None, DEFAULT_SAMPLING) else f"{one.sampling}/{one.name}": one.result()
            for one in self._measurements()
        }
        return {name: result for name, result in found.items() if result is not None}


def _recorded_inputs(training: TrainingFolder) -> dict[str, dict[str, str | None]]:
    """The inputs that the latest checkpoint of a training recorded, none without a checkpoint."""
    latest = training.latest_checkpoint()
    try:
        record = read_record(latest / DENOISER_FILE, DenoiserRecord) if latest else None
    except IntegrityError:
        record = None  # training goes on from the one before, and names the damaged one
    recorded: dict[str, dict[str, str | None]] = record.facts.get("inputs", {}) if record else {}
    return recorded
