"""What each stage of a run depends on, as digests.

    train <- data, model, training, seed;    sample <- train, sampling;    evaluate <- sample, evaluation

Of the data's files, and of the weights of a first stage, it is the content that counts: a path says where something is and not what
it is. What is no longer there is taken for what the run's checkpoint says was there, at the same place, so a finished run is finished
without its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etsdm.data import Dataset, Files
from etsdm.recipe import Recipe
from etsdm.storage.files import digest_of, sha256_of

__all__ = ["data_fields", "digests_of", "inputs_of"]

STAGE_FORMAT = 3  # raise it when a stage computes something else from the same fields
# Fields of training that change no weight, and the path of a file that counts by its content.
WITHOUT_EFFECT = {"log_every", "checkpoint_every", "keep_checkpoints", "first_stage_weights"}


def digests_of(recipe: Recipe, seed: int, inputs: Mapping[str, Files]) -> dict[str, str]:
    """What the stages depend on, by stage.

    Args:
        recipe: of one arm.
        seed: of one run.
        inputs: what `inputs_of` found.
    """
    dump = recipe.model_dump(mode="json")
    training = {field: value for field, value in dump["training"].items() if field not in WITHOUT_EFFECT}
    sampling = {field: value for field, value in dump["sampling"].items() if field != "batch_size"}
    contents = {field: files.content for field, files in inputs.items()}
    train = digest_of([STAGE_FORMAT, "train", data_fields(recipe.data), dump["model"], training, contents, seed])
    sample = digest_of([STAGE_FORMAT, "sample", train, sampling])
    return {"train": train, "sample": sample, "evaluate": digest_of([STAGE_FORMAT, "evaluate", sample, dump["evaluation"]])}


def data_fields(data: Dataset) -> dict[str, Any]:
    """The fields of a data set that say which images of its files are meant and how they are read."""
    return {field: value for field, value in data.model_dump(mode="json").items() if field not in data.descriptive}


def inputs_of(recipe: Recipe, recorded: Callable[[], Mapping[str, Mapping[str, Any]]]) -> dict[str, Files]:
    """Finds what a recipe's training reads from outside its folder.

    Args:
        recipe: of one arm.
        recorded: gives the fields of what this found for the latest checkpoint; it is asked only where files are missing.

    Returns:
        The files by the part of the recipe that names them. Their content is None if they are neither there nor recorded.

    Raises:
        DataError: a file of the data cannot be read.
    """
    found = {}
    if (files := recipe.data.files()) is not None:
        found["data"] = files
    if recipe.model.first_stage is not None:
        weights = recipe.training.first_stage_weights
        found["first_stage_weights"] = Files(weights, sha256_of(Path(weights)) if weights and Path(weights).is_file() else None)
    if any(files.content is None for files in found.values()):
        for name, fields in recorded().items():
            if name in found and found[name] == (fields["place"], None):
                found[name] = Files(**fields)
    return found
