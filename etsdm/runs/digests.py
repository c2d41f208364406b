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
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of, sha256_of

__all__ = ["StageDigests", "find_inputs", "stage_digests", "with_recorded"]

STAGE_FORMAT = 5  # raise it when a stage computes something else from the same fields
# Fields of training that change no weight, and the path of a file that counts by its content.
WITHOUT_EFFECT = {"log_every", "checkpoint_every", "keep_checkpoints", "first_stage_weights"}


class StageDigests(NamedTuple):
    """Digests of a run. Fields: train; samples by name; values by `metric`, or `sampling/metric` for metrics of samples."""

    train: str
    samples: dict[str, str]
    values: dict[str, str]


def stage_digests(recipe: Recipe, seed: int, inputs: Mapping[str, Files]) -> StageDigests:
    """Digests of all that each stage depends on.

    Args:
        recipe: of one arm.
        seed: of one run.
        inputs: result of `find_inputs`.
    """
    dump = recipe.model_dump(mode="json")
    training = {field: value for field, value in dump["training"].items() if field not in WITHOUT_EFFECT}
    contents = {field: files.content for field, files in inputs.items()}
    train = digest_of([STAGE_FORMAT, "train", recipe.data.identity(), dump["model"], training, contents, seed])
    samples = {}
    for name, sampling in recipe.samplings.items():
        fields = sampling.model_dump(mode="json", exclude={"batch_size"})
        samples[name] = digest_of([STAGE_FORMAT, "sample", train, fields])
    values = {}
    for metric in recipe.evaluation.metrics:
        stem = metric.file_stem
        sources = {f"{name}/{stem}": digest for name, digest in samples.items()} if metric.uses_samples else {stem: train}
        for key, source in sources.items():
            evaluation = recipe.evaluation
            of_denoiser = [] if metric.uses_samples else [evaluation.weights, evaluation.edges]
            values[key] = digest_of([STAGE_FORMAT, "evaluate", source, metric.settings, evaluation.seed, *of_denoiser])
    return StageDigests(train, samples, values)


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
