"""One run, an arm with one seed: its stages, and how each is carried out.

A stage is done when its record carries the digest of all that it depends on (`etsdm.runs.digests`); a changed field, or other files,
change the digests from a stage on, and only those stages are done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.checkpoints.format import DENOISER_FILE, load_first_stage, read_checkpoint, read_json
from etsdm.data import Files, Images, Split
from etsdm.denoisers.denoiser import Denoiser
from etsdm.runs.digests import data_fields, digests_of, inputs_of
from etsdm.devices import resolve_device
from etsdm.errors import DataError
from etsdm.metrics import Metric, MetricResult, Subject
from etsdm.recipe import Recipe, fingerprint, to_yaml
from etsdm.runs.folder import RunFolder, StageRecord
from etsdm.runs.environment import environment
from etsdm.sampling import SampledImages, SamplingTask, TensorStore, generate_missing
from etsdm.storage.files import digest_of, read_record, write_atomically, write_record
from etsdm.storage.images import PREVIEW, image_grid, png_bytes
from etsdm.training import Trainer

__all__ = ["STAGES", "Run", "StageProgress"]

STAGES = ("train", "sample", "evaluate")


class StageProgress(NamedTuple):
    """Where a run is. Fields: stage; done of total, in `unit`s; `reused` if the stage was found finished."""

    stage: str
    done: int
    total: int
    unit: str
    reused: bool = False


class Run:
    """One arm with one seed.

    Args:
        arm: its name.
        recipe: the arm's recipe.
        seed: one of the recipe's seeds.
        folder: where it lives.
    """

    def __init__(self, arm: str, recipe: Recipe, seed: int, folder: RunFolder) -> None:
        self.arm = arm
        self.recipe = recipe
        self.seed = seed
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({self.label!r} in {str(self.folder.path)!r})"

    @property
    def label(self) -> str:
        """The arm, and the seed where the recipe has several."""
        return self.arm if len(self.recipe.seeds) == 1 else f"{self.arm} seed {self.seed}"

    @cached_property
    def inputs(self) -> dict[str, Files]:
        """What training reads from outside the folder, looked at once."""
        return inputs_of(self.recipe, lambda: self._latest_facts.get("inputs", {}))

    @cached_property
    def digests(self) -> dict[str, str]:
        """What each stage depends on, as one digest."""
        return digests_of(self.recipe, self.seed, self.inputs)

    def is_done(self, stage: str) -> bool:
        """Whether a stage's record and files are there and belong to this recipe."""
        record = self.folder.stage(stage)
        if record is None or record.digest != self.digests[stage]:
            return False
        if stage == "sample":
            return not self._store.missing(range(self.recipe.sampling.n))
        checkpoint = self.folder.checkpoint_at(self.recipe.training.images)
        return {"train": checkpoint / DENOISER_FILE, "evaluate": self.folder.evaluation_file}[stage].exists()

    def check(self, stages: tuple[str, ...] = STAGES) -> None:
        """Raises DataError unless all files are there that stages which are not done need from outside; reads none of them."""
        todo = [stage for stage in stages if not self.is_done(stage)]
        if not todo:
            return
        # Samples are drawn without the data, unless they are made of its small images.
        if todo != ["sample"] or not self.is_done("train") or self.recipe.model.super_resolution is not None:
            self.recipe.data.check()
        first_stage, weights = self.recipe.model.first_stage, self.recipe.training.first_stage_weights
        if first_stage is None or self.is_done("train") or self._latest_training == self.digests["train"]:
            return
        kind = f"first stage {first_stage.type_name!r}"
        keys = "a safetensors file of its state dict, in the keys of CompVis/latent-diffusion"
        if weights is None:
            raise DataError(f"training.first_stage_weights: none are given for {kind}; give {keys}")
        if not Path(weights).is_file():
            place = Path(weights).absolute()
            raise DataError(f"training.first_stage_weights: {place} is missing; put there the weights of {kind}: {keys}")

    def carry_out(self, stages: tuple[str, ...] = STAGES) -> Iterator[StageProgress]:
        """Does the stages that are not done, in order, and yields progress.

        Args:
            stages: which; a stage that is not done and comes before one of them is done first.
        """
        last = max(STAGES.index(stage) for stage in stages)
        self.check(STAGES[: last + 1])
        if not self.is_done("train"):
            self._make_room()
        with _threads(self.recipe.compute.threads):
            for stage in STAGES[: last + 1]:
                if self.is_done(stage):
                    yield StageProgress(stage, 1, 1, "", reused=True)
                    continue
                write_atomically(self.folder.recipe_file, to_yaml(self.recipe))
                clock = time.perf_counter()
                facts: dict[str, float] = {}
                yield from {"train": self._train, "sample": self._sample, "evaluate": self._evaluate}[stage](facts)
                seconds = round(time.perf_counter() - clock, 2)
                self.folder.finish_stage(stage, StageRecord(self.digests[stage], seconds, facts))

    @property
    def device(self) -> torch.device:
        """The device that the recipe asks for."""
        return resolve_device(self.recipe.compute.device)

    @property
    def denoiser(self) -> Denoiser:
        """The trained denoiser in eval mode, or, before training, the one that training starts from.

        Where the weights of a first stage are not there yet, its weights are drawn like the others; `check` refuses to train it.
        """
        if self.is_done("train"):
            return self._prepared(read_checkpoint(self.folder.checkpoint_at(self.recipe.training.images), self.device).denoiser)
        denoiser = self.recipe.model.build(self.seed, self.device).eval()
        if weights := self._first_stage_weights:
            load_first_stage(denoiser, weights)
        return self._prepared(denoiser)

    @property
    def _first_stage_weights(self) -> Path | None:
        """The file of the first stage's weights, where there is one."""
        weights = self.recipe.training.first_stage_weights
        return Path(weights) if self.recipe.model.first_stage is not None and weights and Path(weights).is_file() else None

    def _prepared(self, denoiser: Denoiser) -> Denoiser:
        self.recipe.compute.prepare(denoiser.backbone)
        return denoiser

    @property
    def samples(self) -> SampledImages:
        """What the sampling stage drew, with the classes that it was asked for."""
        return SampledImages(self._store, self.recipe.sampling.n, self._labels)

    @property
    def _store(self) -> TensorStore:
        return TensorStore(self.folder.samples, self.digests["sample"])

    @property
    def outcomes(self) -> dict[str, MetricResult]:
        """What the evaluation stage found, by metric."""
        record = read_record(self.folder.evaluation_file)
        return {item["protocol"]["metric"]["type"]: MetricResult.model_validate(item["outcome"]) for item in record.get("results", [])}

    @property
    def _latest_facts(self) -> dict[str, Any]:
        """What the training that left the latest checkpoint in the folder recorded in it; nothing without one."""
        latest = self.folder.latest_checkpoint()
        facts: dict[str, Any] = read_json(latest / DENOISER_FILE)["facts"] if latest else {}
        return facts

    @property
    def _latest_training(self) -> str | None:
        """The digest of that training."""
        facts = self._latest_facts
        return facts["train_digest"] if facts else None

    def _make_room(self) -> None:
        """Moves away what another training left in the folder, and brings back what this one left before."""
        digest, found = self.digests["train"], self._latest_training
        if found == digest:
            return
        if found:
            self.folder.supersede(found)
        self.folder.bring_back(digest)

    def _train(self, facts: dict[str, float]) -> Iterator[StageProgress]:
        folder, digest = self.folder, self.digests["train"]
        write_record(folder.environment_file, {**environment(), "device": str(self.device), "threads": torch.get_num_threads()})
        trainer = Trainer(self.recipe.model, self.recipe.training, self._images("train"), seed=self.seed, device=self.device)
        self._prepared(trainer.denoiser)
        if latest := folder.latest_checkpoint():
            trainer.restore(latest)
        elif weights := self._first_stage_weights:
            load_first_stage(trainer.denoiser, weights)
        folder.cut_log(trainer.images_seen)
        total = self.recipe.training.images
        yield StageProgress("train", trainer.images_seen, total, "images")
        inputs = {name: files._asdict() for name, files in self.inputs.items()}
        origin = {"train_digest": digest, "inputs": inputs, "recipe": fingerprint(self.recipe), "arm": self.arm, "seed": self.seed}
        for progress in trainer.run(folder.checkpoint_at, **origin):
            if progress.record:
                folder.log(progress.record)
                folder.keep_checkpoints(self.recipe.training.keep_checkpoints)
            yield StageProgress("train", progress.images_seen, total, "images")
        folder.keep_checkpoints(self.recipe.training.keep_checkpoints)
        rates = [record["images_per_second"] for record in folder.training_log()]
        facts["images_per_second"] = sorted(rates)[len(rates) // 2]

    def _sample(self, facts: dict[str, float]) -> Iterator[StageProgress]:
        sampling, denoiser = self.recipe.sampling, self.denoiser
        self._store.open_for()
        drawing = SamplingTask(denoiser, sampling.sampler, sampling.seed, self._cond(denoiser))
        for progress in generate_missing(drawing, self._store, n=sampling.n, batch_size=sampling.batch_size):
            yield StageProgress("sample", progress.done, sampling.n, "images")
        facts["nfe"] = sampling.sampler.plan(denoiser).nfe
        first = self.samples.batch(range(min(sampling.n, PREVIEW))).pixels
        protocol = {"seed": str(sampling.seed), "sampler": sampling.sampler.model_dump_json(), "recipe": fingerprint(self.recipe)}
        write_atomically(self.folder.grid_file, png_bytes(image_grid(first), protocol))

    def _evaluate(self, facts: dict[str, float]) -> Iterator[StageProgress]:
        evaluation = self.recipe.evaluation
        train, test = self._images("train"), self._images("test")
        subject = Subject(self.denoiser, self.samples, train, test, evaluation.seed)
        results = []
        yield StageProgress("evaluate", 0, len(evaluation.metrics), "metrics")
        for metric in evaluation.metrics:
            outcome = metric.compute(subject)
            protocol = self._protocol(metric, subject)
            results.append({"protocol": protocol, "protocol_digest": digest_of(protocol), "outcome": outcome.model_dump(mode="json")})
            yield StageProgress("evaluate", len(results), len(evaluation.metrics), "metrics")
        write_record(self.folder.evaluation_file, {"results": results})

    def _protocol(self, metric: Metric, subject: Subject) -> dict[str, object]:
        """All that a value depends on except the weights: arms whose protocols have one digest may be compared."""
        sampling = self.recipe.sampling
        drawn = {"sampler": sampling.sampler.model_dump(mode="json"), "n": sampling.n, "seed": sampling.seed}
        drawn["nfe"] = sampling.sampler.plan(self.recipe.model).nfe
        return {
            "metric": metric.model_dump(mode="json"),
            "seed": self.recipe.evaluation.seed,
            "data": {**data_fields(self.recipe.data), "train": subject.train.digest(), "test": subject.test.digest()},
            "samples": drawn if metric.uses_samples else None,
            "weights": "ema",
            "versions": environment(),
        }

    def _images(self, split: Split) -> Images:
        return self.recipe.data.open(split)

    def _labels(self, indices: Tensor) -> Tensor:
        """The classes of samples: the data's in turn, or 0 for all where the network is told none. Args: indices: int64, (N,)."""
        return indices % self.recipe.data.num_classes if self.recipe.model.backbone.num_classes else torch.zeros_like(indices)

    def _cond(self, denoiser: Denoiser) -> Callable[[Sequence[int]], dict[str, Tensor]]:
        """What the network is told of samples, by their indices: the data's labels in turn, small ones of held-out images in turn."""
        enlarged = denoiser.spec.super_resolution
        test = None if enlarged is None else self._images("test")

        def cond(indices: Sequence[int]) -> dict[str, Tensor]:
            told = {"y": self._labels(torch.tensor(indices))} if denoiser.num_classes else {}
            if enlarged is not None and test is not None:
                told["low_res"] = enlarged.reduce(test.batch([k % len(test) for k in indices]).pixels)
            return told

        return cond


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Runs a block with a number of threads; the order of additions, and so the last bit, depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
