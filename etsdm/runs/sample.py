"""The stage that draws the samples of one name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from etsdm.checkpoints.format import Weights
from etsdm.denoisers.denoiser import Denoiser
from etsdm.recipe import Recipe, fingerprint
from etsdm.runs.changes import reasons
from etsdm.runs.folder import SampleFolder
from etsdm.runs.records import StageRecord
from etsdm.runs.stages import Progress, Stage, StagePlan
from etsdm.sampling import Conditions, ReducedImages, SampledImages, SamplingTask, TensorStore, generate_missing
from etsdm.sampling.config import DEFAULT_SAMPLING, Sampling
from etsdm.storage.images import PREVIEW_IMAGES, image_grid

__all__ = ["Sample", "grid_columns"]

GRID_COLUMNS = 8


@dataclass(frozen=True)
class Sample(Stage):
    """Draws the samples of one name.

    Attributes:
        recipe: of the arm.
        name: of the samples.
        sampling: section of the recipe.
        digest: of training and sampling.
        depends_on: all that the digest is made of.
        folder: of the samples.
        load_denoiser: reads the trained denoiser with the averaged or the current weights.
    """

    kind: ClassVar[str] = "sample"
    unit: ClassVar[str] = "images"

    recipe: Recipe
    name: str
    sampling: Sampling
    digest: str
    depends_on: Mapping[str, Any]
    folder: SampleFolder
    load_denoiser: Callable[[Weights], Denoiser]

    @property
    def label(self) -> str:
        return self.kind if self.name == DEFAULT_SAMPLING else f"{self.kind} {self.name}"

    @property
    def images(self) -> SampledImages:
        """The drawn samples, with their labels, read when needed."""
        return SampledImages(self._store, self.sampling.n, self.conditions.class_labels)

    def is_done(self) -> bool:
        record = self.folder.finished()
        finished = record is not None and record.digest == self.digest and self._has_grid()
        return finished and not self._store.missing(range(self.sampling.n))

    def plan(self, *, trained: bool) -> StagePlan:
        """Plan of the samples that are left. Args: trained: whether the training is done."""
        total = self.sampling.n
        missing = len(self._store.missing(range(total)))
        planned = StagePlan(self.kind, self.name, total - missing, total, self.unit, finished=self.is_done())
        record = self.folder.finished()
        if planned.finished or record is None:
            return planned
        if record.digest == self.digest:
            lost = f"{missing:,} of {total:,} images are missing or damaged" if missing else "grid.png is missing or damaged"
            return planned._replace(again=(lost,))
        found = reasons(record.depends_on, self.depends_on, own="sampling", before="" if trained else "new weights")
        return planned._replace(again=tuple(found))

    def run(self) -> Iterator[Progress]:
        clock, sampling = time.perf_counter(), self.sampling
        denoiser = sampling.guided(self.load_denoiser(sampling.weights))
        self._store.open()
        task = SamplingTask(denoiser, sampling.sampler, sampling.seed, self.conditions)
        for progress in generate_missing(task, self._store, n=sampling.n, batch_size=sampling.batch_size):
            yield self.progress(progress.done, sampling.n)
        facts: dict[str, Any] = {"nfe": sampling.sampler.plan(denoiser).nfe, "weights": sampling.weights}
        if self.recipe.data.are_pictures:
            columns = grid_columns(len(self.conditions.labels or (0,)))
            first = self.images.batch(range(min(sampling.n, PREVIEW_IMAGES // columns * columns))).pixels
            origin = {"seed": str(sampling.seed), "sampler": sampling.sampler.model_dump_json(), "recipe": fingerprint(self.recipe)}
            self.folder.write_grid(image_grid(first, columns), digest=self.digest, **origin)
        else:
            facts["pictures"] = False
        seconds = round(time.perf_counter() - clock, 2)
        self.folder.finish(StageRecord(digest=self.digest, seconds=seconds, facts=facts, depends_on=dict(self.depends_on)))

    def _has_grid(self) -> bool:
        """Whether the picture of the first samples is there and whole, or none is to be."""
        return not self.recipe.data.are_pictures or self.folder.has_grid(self.digest)

    @property
    def _store(self) -> TensorStore:
        return TensorStore(self.folder.path, self.digest)

    @cached_property
    def conditions(self) -> Conditions:
        """Inputs of the samples: labels in turn, and low-resolution versions of held-out images in turn."""
        model, data = self.recipe.model, self.recipe.data
        labels = (self.sampling.labels or range(data.num_classes)) if model.backbone.num_classes else None
        if model.super_resolution is None:
            return Conditions(labels)
        return Conditions(labels, ReducedImages(data.open("test"), model.super_resolution))


def grid_columns(labels: int) -> int:
    """Columns of a grid of samples whose labels are used in turn: such that each column has one label, where 16 or fewer suffice."""
    columns = -(-GRID_COLUMNS // labels) * labels
    return columns if columns <= 2 * GRID_COLUMNS else GRID_COLUMNS
