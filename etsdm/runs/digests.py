"""Digests of what the stages of a run depend on.

    train <- data, model, training, seed;    samples <- train, one sampling;    value <- train or samples, one metric, evaluation.seed

Files of the data and weights of a first stage count by their content and not by their path. Where they are missing, the content that a
checkpoint recorded for the same path stands in, so a finished run is finished without its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etsdm.data import Files
from etsdm.recipe import Recipe
from etsdm.sampling.config import DEFAULT_SAMPLING
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of, sha256_of

__all__ = ["StageDependencies", "StageDigests", "find_inputs", "stage_dependencies", "stage_digests", "with_recorded"]

STAGE_FORMAT = 5  # raise it when a stage computes something else from the same fields
# Fields of training that change no weight, and the path of a file that counts by its content.
WITHOUT_EFFECT = {"log_every", "checkpoint_every", "keep_checkpoints", "first_stage_weights"}


class StageDigests(NamedTuple):
    """Digests of a run. Fields: train; samples by name; values by `metric`, or `sampling/metric` for metrics of samples."""

    train: str
    samples: dict[str, str]
    values: dict[str, str]


class StageDependencies(NamedTuple):
    """All that each stage depends on, as JSON values in the shape of a recipe. Fields: as those of `StageDigests`."""

    train: dict[str, Any]
    samples: dict[str, dict[str, Any]]
    values: dict[str, dict[str, Any]]


def stage_dependencies(recipe: Recipe, seed: int, inputs: Mapping[str, Files]) -> StageDependencies:
    """All that each stage depends on; that of a later stage begins with that of the one before.

    Args:
        recipe: of one arm.
        seed: of one run.
        inputs: result of `find_inputs`.
    """
    dump = recipe.model_dump(mode="json")
    training = {field: value for field, value in dump["training"].items() if field not in WITHOUT_EFFECT}
    contents = {field: files.content for field, files in inputs.items()}
    train = {
        "format": STAGE_FORMAT,
        "data": recipe.data.identity(),
        "model": dump["model"],
        "training": training,
        "files": contents,
        "seed": seed,
    }
    samples = {}
    for name, sampling in recipe.samplings.items():
        fields = sampling.model_dump(mode="json", exclude={"batch_size"})
        samples[name] = {**train, "sampling": fields if name == DEFAULT_SAMPLING else {name: fields}}
    values = {}
    for name, metric in zip(recipe.evaluation.names, recipe.evaluation.metrics, strict=True):
        stem = metric.file_stem
        sources = {f"{sampling}/{stem}": found for sampling, found in samples.items()} if metric.uses_samples else {stem: train}
        evaluation: dict[str, Any] = {"metrics": {name: metric.settings}, "seed": recipe.evaluation.seed}
        if not metric.uses_samples:
            evaluation |= {"weights": recipe.evaluation.weights, "edges": recipe.evaluation.edges}
        for key, source in sources.items():
            values[key] = {**source, "evaluation": evaluation}
    return StageDependencies(train, samples, values)


def stage_digests(dependencies: StageDependencies) -> StageDigests:
    """Digests of what each stage depends on: of its own fields, and of the digest of the stage before."""
    train = dependencies.train
    digest = digest_of([train["format"], "train", *(train[key] for key in ("data", "model", "training", "files", "seed"))])
    samples = {}
    for name, found in dependencies.samples.items():
        fields = found["sampling"] if name == DEFAULT_SAMPLING else found["sampling"][name]
        samples[name] = digest_of([found["format"], "sample", digest, fields])
    values = {}
    for key, found in dependencies.values.items():
        source = samples[key.rpartition("/")[0]] if "sampling" in found else digest
        metrics, *others = found["evaluation"].values()
        values[key] = digest_of([found["format"], "evaluate", source, *metrics.values(), *others])
    return StageDigests(digest, samples, values)


@storage_errors()
def find_inputs(recipe: Recipe) -> dict[str, Files]:
    """The files that a recipe's training reads, by the part of the recipe that names them; content None where they are missing.

    Raises:
        DataError: a file of the data cannot be read.
    """
    found = {}
    if (files := recipe.data.files()) is not None:
        found["data"] = files
    if recipe.model.first_stage is not None:
        weights = recipe.training.first_stage_weights
        found["first_stage_weights"] = Files(weights, sha256_of(Path(weights)) if weights and Path(weights).is_file() else None)
    return found


def with_recorded(inputs: Mapping[str, Files], recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, Files]:
    """The inputs, with the recorded content of those that are missing at the recorded path. Args: recorded: fields of `Files`."""
    known = {name: Files(**fields) for name, fields in recorded.items()}
    return {
        name: known[name] if files.content is None and name in known and known[name].place == files.place else files
        for name, files in inputs.items()
    }
