"""`Recipe`: data, model, training, sampling and evaluation of one arm, and the checks across these sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from etsdm.data import Dataset
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import PartError, RecipeError
from etsdm.metrics.base import EvaluationPlan
from etsdm.metrics.config import Evaluation, default_metrics
from etsdm.recipe.compute import Compute
from etsdm.registry import Frozen, datasets, field_error, suggestion
from etsdm.registry.counts import RunSeed
from etsdm.sampling.config import DEFAULT_SAMPLING, Sampling, Samplings
from etsdm.training.config import Training

__all__ = ["Recipe"]

PICTURE_CHANNELS = (1, 3)
FLOAT32_BYTES = 4
MAX_BATCH = 10**11  # bytes of a batch of images; activations are many times that


class Recipe(Frozen):
    """The complete description of one arm of an experiment.

    Attributes:
        name: name of the experiment and of its folder under `runs/`; the file's stem by default.
        description: one line for the report.
        seeds: seeds of weights, data order and noise; one run per seed.
        data, model, training, sampling, evaluation, compute: the sections.
    """

    name: str = Field("recipe", max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seeds: tuple[RunSeed, ...] = Field((0,), min_length=1, max_length=1000)
    data: Dataset
    model: DenoiserSpec
    training: Training
    sampling: Samplings = Sampling()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()

    @property
    def samplings(self) -> dict[str, Sampling]:
        """The sections of `sampling` by name; one section alone is named `default`."""
        return self.sampling if isinstance(self.sampling, dict) else {DEFAULT_SAMPLING: self.sampling}

    def sampling_of(self, name: str | None = None) -> Sampling:
        """A section of `sampling`. Args: name: None for the first. Raises: RecipeError if there is no such name."""
        sections = self.samplings
        if name is not None and name not in sections:
            raise RecipeError(f"sampling: unknown name {name!r}; {suggestion(name, sections, 'it has')}")
        return sections[name or next(iter(sections))]

    @model_validator(mode="before")
    @classmethod
    def _classes_of_the_data(cls, value: Any) -> Any:
        """Puts the number of classes of the data, and one for the null class where labels are dropped, in the place of `auto`."""
        if not isinstance(value, Mapping) or "data" not in value:
            return value
        model, training = value.get("model"), value.get("training")
        backbone = model.get("backbone") if isinstance(model, Mapping) else None
        if not isinstance(model, Mapping) or not isinstance(backbone, Mapping) or backbone.get("num_classes") != "auto":
            return value
        try:
            known = datasets.make(value["data"]).num_classes
        except (ValueError, TypeError):
            known = 1  # the section itself is refused, with its own message
        dropped = isinstance(training, Mapping) and bool(training.get("label_dropout"))
        return {**value, "model": {**model, "backbone": {**backbone, "num_classes": known + dropped}}}

    @field_validator("evaluation")
    @classmethod
    def _default_metrics(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        if "metrics" in evaluation.model_fields_set or "data" not in info.data:
            return evaluation
        return evaluation.model_copy(update={"metrics": default_metrics(held_out=info.data["data"].holds_out)})

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise field_error("Recipe", ("seeds",), f"{list(self.seeds)}: a seed stands twice; give each once")
        return self

    @model_validator(mode="after")
    def _model_fits_data(self) -> Self:
        model, backbone, name = self.model, self.model.backbone, self.data.type_name
        channels, height, width = self.data.shape
        if self.data.are_pictures and channels not in PICTURE_CHANNELS:
            message = f"images of {name!r} have {channels} channels, and pictures have 1 or 3; give such a data set"
            raise field_error("Recipe", ("data",), message)
        if model.first_stage is not None:
            if model.image_shape != self.data.shape:
                found, wanted = ("x".join(map(str, shape)) for shape in (model.image_shape, self.data.shape))
                message = f"is for images of {found}, but those of data set {name!r} are {wanted}; change one of the two"
                raise field_error("Recipe", ("model", "first_stage"), message)
        elif model.image_shape[0] != channels:
            needed = channels * (backbone.in_channels // model.image_shape[0])
            message = f"{backbone.in_channels} channels, but data set {name!r} has {channels}; give {needed}"
            raise field_error("Recipe", ("model", "backbone", "in_channels"), message)
        elif model.image_shape != self.data.shape:
            message = f"{backbone.image_size} pixels, but images of data set {name!r} are {height}x{width}; give {height}"
            raise field_error("Recipe", ("model", "backbone", "image_size"), message)
        known = self.data.num_classes
        # One more for the null class, the unconditional label of classifier-free guidance.
        if backbone.num_classes not in (None, known, known + 1):
            message = f"{backbone.num_classes} classes, but data set {name!r} has {known}; give {known}, {known + 1} or null"
            raise field_error("Recipe", ("model", "backbone", "num_classes"), message)
        if self.training.random_crop is not None and not self.data.crops_at_random:
            message = f"no square is cut from images of {name!r} as they are read; leave random_crop out"
            raise field_error("Recipe", ("training", "random_crop"), message, self.training.random_crop)
        return self

    @model_validator(mode="after")
    def _null_class_is_trained(self) -> Self:
        dropout, found, known = self.training.label_dropout, self.model.backbone.num_classes, self.data.num_classes
        if dropout and found != known + 1:
            labels = "no labels" if found is None else f"{found} labels, all of them classes"
            message = f"{dropout:g} of the labels become the null class, but the model has {labels}"
            mend = f"give model.backbone.num_classes {known + 1}, or leave label_dropout out"
            raise field_error("Recipe", ("training", "label_dropout"), f"{message}; {mend}", dropout)
        if not dropout and found == known + 1:
            message = f"0, so nothing trains the null class, the last of the model's {found} labels"
            mend = f"give a probability such as 0.1, or model.backbone.num_classes {known}"
            raise field_error("Recipe", ("training", "label_dropout"), f"{message}; {mend}", dropout)
        return self

    @model_validator(mode="after")
    def _metrics_fit_data(self) -> Self:
        for i, metric in enumerate(self.evaluation.metrics):
            if metric.uses_held_out and not self.data.holds_out:
                message = f"{metric.type_name!r} measures held-out images, and data.held_out is 0; hold out some, or leave the metric out"
                raise field_error("Recipe", ("evaluation", "metrics", i), message)
            if metric.uses_samples and self.data.pixels is None:
                message = f"{metric.type_name!r} compares samples with images, and the data has latents alone; give data.images"
                raise field_error("Recipe", ("evaluation", "metrics", i), message)
        if self.model.super_resolution is not None and not self.data.holds_out:
            message = "samples are enlarged held-out images, and data.held_out is 0; hold out some"
            raise field_error("Recipe", ("model", "super_resolution"), message)
        return self

    @model_validator(mode="after")
    def _loss_fits_model(self) -> Self:
        loss, backbone = self.training.loss, self.model.backbone
        if self.model.learns_variance and not loss.learns_variance:
            message = f"{backbone.out_channels} channels learn a variance, which loss {loss.type_name!r} does not train"
            mend = f"give {backbone.out_channels // 2}, or loss hybrid"
            raise field_error("Recipe", ("model", "backbone", "out_channels"), f"{message}; {mend}")
        if loss.learns_variance and not self.model.learns_variance:
            message = f"{loss.type_name!r} trains a variance, which the model does not learn; give backbone.out_channels"
            raise field_error("Recipe", ("training", "loss"), f"{message} {2 * backbone.out_channels}")
        return self

    @model_validator(mode="after")
    def _batches_fit_memory(self) -> Self:
        batches = {("training", "batch_size"): self.training.batch_size}
        for name, sampling in self.samplings.items():
            path = ("sampling", name) if isinstance(self.sampling, dict) else ("sampling",)
            batches[(*path, "batch_size")] = sampling.batch_size
        for path, batch_size in batches.items():
            if (size := FLOAT32_BYTES * batch_size * prod(self.data.shape)) > MAX_BATCH:
                message = f"{batch_size:,} images of {'x'.join(map(str, self.data.shape))} are {size / 1e9:,.0f} GB; give fewer"
                raise field_error("Recipe", path, message, batch_size)
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        """Runs the parts' own checks."""
        with _errors_below("model"):
            self.model.check_weights()
        with _errors_below("model", "backbone"):
            self.model.backbone.check({"y"})
        with _errors_below("training"):
            self.training.loss.check(self.model)
            with _errors_below("time_sampler"):
                self.training.time_sampler.check(self.model.schedule)
        for name, sampling in self.samplings.items():
            path = ("sampling", name) if isinstance(self.sampling, dict) else ("sampling",)
            with _errors_below(*path, "sampler"):
                sampling.sampler.check(self.model)
            with _errors_below(*path):
                sampling.check_classes(self.model.backbone.num_classes, self.data.num_classes)
        with _errors_below("evaluation"):
            self.evaluation.check(self.model.schedule)
        for i, metric in enumerate(self.evaluation.metrics):
            with _errors_below("evaluation", "metrics", i):
                for sampling in self.samplings.values() if metric.uses_samples else [self.sampling_of()]:
                    metric.check(EvaluationPlan(self.model, self.data, sampling.n, self.evaluation.edges))
        return self


@contextmanager
def _errors_below(*path: str | int) -> Iterator[None]:
    """Makes a validation error of a `PartError`, with a path before its field."""
    try:
        yield
    except PartError as error:
        raise field_error("Recipe", (*path, *error.path), error.message) from None
