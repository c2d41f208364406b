"""The clean images on which a model is diagnosed: given ones, those of a data set, of the model's run, or samples of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.analysis import MeasuredModel
from etsdm.analysis.diagnosis.cost import CountedRows
from etsdm.data import Dataset, ImageFolder
from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.randomness import generator
from etsdm.registry import datasets
from etsdm.samplers import DDIM
from etsdm.sampling import sample_batches
from etsdm.theory import ExactDenoiser

__all__ = ["Data", "DiagnosedImages", "images_of", "rows_of_sampling"]

SAMPLING_STEPS = 50
LARGEST = 1e3  # magnitude of samples beyond which sampling has failed

Data = Tensor | Dataset | Path | str | Mapping[str, Any]


class DiagnosedImages(NamedTuple):
    """Clean images and what they are.

    Fields: x0, (N, ...), of the denoiser's shape; cond, conditioning inputs, a row for each image; source, in words; meaning, what that
    means for the numbers; facts, JSON values that identify them.
    """

    x0: Tensor
    cond: dict[str, Tensor]
    source: str
    meaning: str
    facts: dict[str, Any]


def images_of(
    denoiser: DenoiserLike,
    data: Data | None,
    n: int,
    *,
    cond: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    on_rows: Callable[[int], Any] = lambda n: None,
) -> DiagnosedImages:
    """The images to diagnose a denoiser on, at most n.

    Args:
        denoiser: in eval mode.
        data: images in the denoiser's shape, (N, ...), in [-1, 1], or latents; a data set, its name or its fields with `type`; a folder
            of images; or None, for samples of the denoiser, or of the mixture of an exact one.
        n: number of images.
        cond: conditioning inputs beside those of the data set, a row for each image or one for all.
        seed: of samples.
        batch_size: samples in a forward pass.
        on_rows: called with the number of rows in each pass of the network; `rows_of_sampling` for each image in all.

    Raises:
        PartError: the images do not fit the denoiser, or it has no samples without further inputs.
        DataError: there are no images.
        RegistryError: there is no such data set.
    """
    if isinstance(data, Tensor):
        found = _given(denoiser, data[:n])
    elif data is not None:
        found = _of_dataset(denoiser, _dataset(denoiser, data), n)
    elif isinstance(denoiser, ExactDenoiser):
        x0 = denoiser.mixture.sample(n, generator(seed, "diagnosis/samples"))
        meaning = "They are draws from the distribution that the denoiser is exact for, so every number is an unbiased estimate."
        found = DiagnosedImages(x0, {}, f"{n} samples of the mixture", meaning, {"kind": "mixture", "seed": seed})
    else:
        found = _own_samples(CountedRows(denoiser, on_rows), n, cond or {}, seed, batch_size)
    given = {name: _rows(name, value, len(found.x0)) for name, value in (cond or {}).items()}
    return found._replace(cond={**found.cond, **given})


def _given(denoiser: DenoiserLike, x0: Tensor) -> DiagnosedImages:
    if tuple(x0.shape[1:]) != tuple(denoiser.shape) or not len(x0):
        wanted = ", ".join(map(str, ("N", *denoiser.shape)))
        raise PartError("data", f"found a tensor of shape {tuple(x0.shape)}; give ({wanted}) with N of 1 or more")
    return DiagnosedImages(x0, {}, f"{len(x0)} images given", "The numbers are those of these images.", {"kind": "tensor"})


def _dataset(denoiser: DenoiserLike, data: Dataset | Path | str | Mapping[str, Any]) -> Dataset:
    if isinstance(data, Path) or (isinstance(data, str) and Path(data).is_dir()):
        channels, size = _image_shape(denoiser)
        fields = {"path": str(data), "image_size": size, "channels": channels, "held_out": 0, "classes": denoiser.num_classes}
        return ImageFolder.model_validate(fields)
    made: Dataset = datasets.make(data)
    return made


def _image_shape(denoiser: DenoiserLike) -> tuple[int, int]:
    """Channels and side of the images that a denoiser takes."""
    shape = denoiser.spec.image_shape if isinstance(denoiser, Denoiser) else tuple(denoiser.shape)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise PartError("data", f"the denoiser takes data of shape {shape}, which no folder of images has; give a tensor")
    return shape[0], shape[1]


def _of_dataset(denoiser: DenoiserLike, data: Dataset, n: int) -> DiagnosedImages:
    if not isinstance(denoiser, Denoiser):
        raise PartError("data", f"a {type(denoiser).__name__} has no images of a data set; give a tensor")
    held_out = data.holds_out
    model = MeasuredModel.trained(denoiser, data, n, label="", split="test" if held_out else "train")
    kind = "held-out" if held_out else "training"
    meaning = (
        "They were not in the training if it used this data set with the same split."
        if held_out
        else "If the model was trained on them, its loss on new images is larger."
    )
    facts = {"kind": "data set", "data": data.model_dump(mode="json"), "split": "test" if held_out else "train"}
    source = f"{len(model.images)} {kind} images of data set {data.type_name!r}"
    return DiagnosedImages(model.images, model.cond, source, meaning, {**facts, "sha256": model.facts["images"]})


def rows_of_sampling(denoiser: DenoiserLike, data: Data | None) -> int:
    """Number of times that each image passes through the network in `images_of`."""
    return 0 if data is not None or isinstance(denoiser, ExactDenoiser) else SAMPLING_STEPS


def _own_samples(denoiser: CountedRows, n: int, cond: Mapping[str, Tensor], seed: int, batch_size: int) -> DiagnosedImages:
    inputs: dict[str, Any] = {name: _rows(name, value, n) for name, value in cond.items()}
    trained = denoiser.denoiser
    if isinstance(trained, Denoiser) and trained.spec.super_resolution is not None and "low_res" not in inputs:
        raise PartError("data", "is needed, because super-resolution has no samples without small images; give a data set")
    if denoiser.num_classes is not None and "y" not in inputs:
        inputs["y"] = torch.arange(n) % denoiser.num_classes
    steps = sample_batches(denoiser, DDIM(steps=SAMPLING_STEPS), n=n, seed=seed, batch_size=batch_size, **inputs)
    x0 = torch.cat([step.x.float().cpu() for _, step in steps if step.i == step.n])
    if not (x0.isfinite().all() and x0.abs().max() < LARGEST):
        raise PartError("data", "is needed, because the model's own samples are not finite; give a data set or a folder of images")
    meaning = (
        "They stand in for data: K and time-awareness are close to those on real images as far as the samples are, and the loss is that of "
        "the model on its own images, which is lower than on real ones. Give data for the numbers of real images."
    )
    source = f"{n} samples of the model itself (ddim, {SAMPLING_STEPS} steps)"
    x0 = x0.clamp(-1, 1) if denoiser.bounded else x0
    return DiagnosedImages(x0, inputs, source, meaning, {"kind": "own samples", "sampler": "ddim", "steps": SAMPLING_STEPS, "seed": seed})


def _rows(name: str, value: Tensor, n: int) -> Tensor:
    if len(value) not in (1, n):
        raise PartError(("cond", name), f"found {len(value)} rows for {n} images; give one, or one for each image")
    return value.expand(n, *value.shape[1:])
