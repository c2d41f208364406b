"""`etsdm.diagnose`: how a trained model stands with regard to the paper, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.diagnosis import Advice, Measurements, Verdict, advise, measure, rows_per_image, verdict_of
from etsdm.analysis.diagnosis.measure import COARSE, FINE
from etsdm.checkpoints import Weights
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.interop import open_model
from etsdm.interop.open_model import kind_of_model
from etsdm.losses import TimeSampler
from etsdm.recipe import Recipe
from etsdm.report.diagnosis.images import Data, DiagnosedImages, images_of, rows_of_sampling
from etsdm.report.diagnosis.page import write_page
from etsdm.report.diagnosis.record import record_of
from etsdm.runs.origin import recipe_of_checkpoint
from etsdm.storage.faults import storage_errors

__all__ = ["Diagnosis", "diagnose"]

IMAGES, BATCH_SIZE = 32, 32


class Diagnosis(NamedTuple):
    """Diagnosis of a model.

    Fields: label, the model's name; measured, the numbers; images, on which they were measured; trained_images, seen in its training, None
    where unknown.
    """

    label: str
    measured: Measurements
    images: DiagnosedImages
    trained_images: int | None = None

    @property
    def verdict(self) -> Verdict:
        """The case that the model belongs to; see `etsdm.analysis.diagnosis.verdict_of`."""
        return verdict_of(self.measured)

    @property
    def advice(self) -> list[Advice]:
        """Findings, actions and how sure they are, in words."""
        return advise(self.measured)

    def record(self) -> dict[str, Any]:
        """All numbers and the advice as JSON values, with null for what is undefined."""
        images = {"n": len(self.images.x0), "source": self.images.source, "meaning": self.images.meaning, **self.images.facts}
        return record_of(self.measured, self.label, images, self.trained_images)

    def write(self, path: str | Path) -> Path:
        """Writes the page of advice, one HTML file that opens offline, and returns its path. Raises: StorageError if it cannot."""
        return write_page(Path(path), self.measured, self.record())

    def __repr__(self) -> str:
        return f"Diagnosis({self.label!r}, {self.verdict!r}, time-awareness {self.measured.awareness.value:.3g})"


def diagnose(
    model: DenoiserLike | str | Path,
    data: Data | None = None,
    *,
    images: int = IMAGES,
    cond: Mapping[str, Tensor] | None = None,
    fine: int = FINE,
    coarse: int = COARSE,
    weights: Weights = "ema",
    fields: Mapping[str, Any] | None = None,
    origin: str | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Diagnosis:
    """Diagnoses a model: its steepness in time, whether it looks at t at all, its loss per time, and what shared conditions would change.

    Args:
        model: a denoiser, trained or exact; or the folder of a run or checkpoint, the folder or Hub id of a pipeline of diffusers, or a
            file of weights of another program.
        data: a data set, its name or its fields with `type`; a folder of images; a tensor of images, (N, C, H, W), in [-1, 1], or
            of latents. By default the data of the model's run, held-out images where there are some, else samples of the model.
        images: number of images at most.
        cond: further inputs of the network, a row for each image or one for all.
        fine: times in each sub-interval.
        coarse: times beyond the last sub-interval.
        weights: of a folder, `ema` or `current`.
        fields: what a folder or file of another program does not hold, such as `{"schedule": "cosine"}`; see `interop.open_model`.
        origin: the program that wrote a file; guided-diffusion by default.
        device: of the denoiser of a folder or file.
        seed: seed of the noise and of samples.
        batch_size: images in a forward pass.
        progress: called with the number of rows that have passed through the network, and of all.

    Raises:
        CheckpointError: there is no model.
        PartError: an argument does not suit the model, or its outputs are not finite.
        DataError: there are no images.
    """
    for name, value in (("images", images), ("fine", fine), ("coarse", coarse), ("batch_size", batch_size)):
        if value < 1:
            raise PartError(name, f"{value} is too few; give 1 or more")
    recipe, label = None, type(model).__name__
    if isinstance(model, (str, Path)):
        label, recipe = str(model), _recipe(model)
        model = open_model(model, device, weights=weights, model=fields, origin=origin)
    elif fields or origin is not None:
        raise PartError("fields" if fields else "origin", "a denoiser has its own parts; leave it out")
    chosen = recipe.data if data is None and recipe is not None else data
    done, total = 0, images * (rows_per_image(model, fine, coarse) + rows_of_sampling(model, chosen))

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done, total)

    found = images_of(model, chosen, images, cond=cond, seed=seed, batch_size=batch_size, on_rows=count)
    total = done + len(found.x0) * rows_per_image(model, fine, coarse)
    drawn: TimeSampler | None = None if recipe is None else recipe.training.time_sampler
    measured = measure(
        model,
        found.x0,
        found.cond,
        fine=fine,
        coarse=coarse,
        time_sampler=drawn,
        seed=seed,
        batch_size=batch_size,
        on_rows=count,
    )
    return Diagnosis(label, measured, found, None if recipe is None else recipe.training.images)


@storage_errors()
def _recipe(path: str | Path) -> Recipe | None:
    """The recipe of a run's or a checkpoint's folder, None for other models."""
    return recipe_of_checkpoint(path) if kind_of_model(path) == "checkpoint" else None
