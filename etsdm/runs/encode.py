"""Encoding of a recipe's data into latents on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from etsdm.backbones.size import check_fits_memory
from etsdm.checkpoints.format import load_first_stage
from etsdm.devices import resolve_device
from etsdm.errors import DataError, PartError, RecipeError
from etsdm.randomness import seeded_global_rng
from etsdm.recipe import Recipe
from etsdm.runs.stages import Progress
from etsdm.runs.threads import threads_set
from etsdm.storage.files import sha256_of
from etsdm.training.encoding import encode_latents

__all__ = ["encode_recipe"]


def encode_recipe(recipe: Recipe, folder: Path | str, *, batch_size: int = 16) -> Iterator[Progress]:
    """Writes latents of a recipe's data, on which a recipe with `data: {type: latents, path: FOLDER}` trains without the first stage.

    Mirror images are encoded as well where `training.flip` is set. A call that was stopped goes on where it was.

    Args:
        recipe: with images as its data, a first stage, and the file of its weights.
        folder: where to write.
        batch_size: images that are encoded at a time.

    Yields:
        Progress, in images.

    Raises:
        RecipeError: the recipe has no first stage, or its data are latents already.
        DataError: the weights are missing, an image cannot be read, or the folder holds other latents.
        CheckpointError: the weights do not fit the first stage.
    """
    stage, weights = recipe.model.first_stage, recipe.training.first_stage_weights
    if stage is None:
        raise RecipeError("model.first_stage: the recipe has none, so there is nothing to encode with; give one")
    if recipe.data.holds_latents:
        raise RecipeError("data: these are latents already; give the recipe that has the images")
    if weights is None or not Path(weights).is_file():
        found = "none are given" if weights is None else f"{Path(weights).absolute()} is missing"
        raise DataError(f"training.first_stage_weights: {found}; give a safetensors file of the state dict of {stage.type_name!r}")
    recipe.data.check()
    for done, total in recipe.data.check_files():
        yield Progress("encode", "check images", done, total, "images")
    try:
        check_fits_memory(stage, "model.first_stage")
    except PartError as error:
        raise RecipeError(str(error)) from None
    with seeded_global_rng(0, "model/first-stage"):
        network = stage.build().requires_grad_(False).eval()
    load_first_stage(network, weights)
    network.to(resolve_device(recipe.compute.device))
    with threads_set(recipe.compute.threads):
        for done, total in encode_latents(
            network, sha256_of(Path(weights)), recipe.data, folder, flips=recipe.training.flip, batch_size=batch_size
        ):
            yield Progress("encode", "encode", done, total, "images")
