"""Scale of the training data: mean and standard deviation of the clean x, measured before the first step.

    x = alpha x0 + sigma eps,   eps ~ N(0, I)

A schedule's noise levels are relative to data of about unit size, and target `edm` divides by sigma_data. Data of another scale train at
other signal-to-noise ratios than the schedule states, and nothing fails. So 256 images are measured, and their latents where there is a
first stage; bounds are beside each other below. Images in [-1, 1] have a standard deviation of about 0.5, for which schedules of images
are made; latents are scaled to 1 (Rombach et al. 2022, appendix G).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.data import Images
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.errors import DataError
from etsdm.randomness import generator, permutation

__all__ = ["SAMPLE_IMAGES", "DataScale", "Moments", "Scale", "measure_data", "scale_warnings"]

SAMPLE_IMAGES = 256
SEED = 0  # the same sample for all arms and seeds, so that they state the same numbers
LARGEST_PIXEL, ABSURD_PIXEL = 1.1, 10.0
LOW_CONTRAST, NO_CONTRAST = 0.1, 0.01
FAR, ABSURD = 1.8, 10.0  # ratios to the expected standard deviation
FAR_MEAN, FAR_CHANNEL_MEAN, FAR_CHANNEL = 1.0, 3.0, 5.0  # in standard deviations
BLACK = 0.1  # darkest value of images in [0, 1]
WHITES = (1, 255, 65535)


class Scale(NamedTuple):
    """Statistics of images or latents. Fields: mean, std, low and high over all values; channel_means; channel_stds."""

    mean: float
    std: float
    low: float
    high: float
    channel_means: tuple[float, ...]
    channel_stds: tuple[float, ...]


class DataScale(NamedTuple):
    """Scale of the training data.

    Fields: n, number of measured images; images, None for latents on disk; latents, None without a first stage.
    """

    n: int
    images: Scale | None
    latents: Scale | None

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"n": self.n, "images": self.images and self.images._asdict(), "latents": self.latents and self.latents._asdict()}


class Moments:
    """Sums over batches, a channel each, in float64. Args: what: name of the values, for messages; mend of values that are not finite."""

    def __init__(self, what: str, mend: str) -> None:
        self.what = what
        self.mend = mend
        self.count = 0
        self.rows: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        """Adds a batch, (B, C, H, W). Raises: DataError if a value is not finite."""
        if not torch.isfinite(x).all():
            bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
            raise DataError(f"{self.what}: {bad} of {len(x)} in a batch hold values that are not finite; {self.mend}")
        values = x.double().transpose(0, 1).flatten(1)
        self.rows.append(torch.stack([values.sum(1), values.square().sum(1), values.amin(1), values.amax(1)]))
        self.count += values.shape[1]

    def scale(self) -> Scale:
        sums, squares, lows, highs = torch.stack(self.rows).unbind(1)
        means, second = sums.sum(0) / self.count, squares.sum(0) / self.count
        stds = (second - means.square()).clamp(min=0).sqrt()
        # Exactly 0 for a constant, whatever the rounding.
        stds = torch.where(lows.amin(0) == highs.amax(0), 0.0, stds)
        low, high, mean = float(lows.min()), float(highs.max()), float(means.mean())
        std = 0.0 if low == high else math.sqrt(max(float(second.mean()) - mean**2, 0.0))
        return Scale(mean, std, low, high, tuple(means.tolist()), tuple(stds.tolist()))


def measure_data(denoiser: Denoiser, images: Images, batch_size: int) -> DataScale:
    """Measures a sample of the training data, `SAMPLE_IMAGES` or all if there are fewer.

    Args:
        denoiser: encodes the images where it has a first stage.
        images: the training split.
        batch_size: images that are read and encoded at a time, at most.

    Raises:
        DataError: a batch has other channels than an image of the model, or values that are no finite floating-point numbers.
    """
    chosen = permutation(SEED, "training/data-scale", 0, len(images))[:SAMPLE_IMAGES]
    pixels = Moments("data: images", "give finite pixels in [-1, 1]")
    latents = Moments("model.first_stage: latents", "check training.first_stage_weights")
    spec = denoiser.spec
    channels = spec.first_stage.moments_shape[0] if images.encoded and spec.first_stage is not None else spec.image_shape[0]
    for k, indices in enumerate(chosen.split(batch_size)):
        batch = images.batch(indices).pixels
        if not batch.is_floating_point():
            raise DataError(f"data: images are of {batch.dtype}; give float32 in [-1, 1]")
        if batch.ndim != 4 or batch.shape[:2] != (len(indices), channels):
            found = "x".join(map(str, batch.shape))
            raise DataError(f"data: a batch of images has the shape {found}; give {len(indices)}x{channels} x height x width")
        if not images.encoded:
            pixels.add(batch)
        if denoiser.first_stage is not None:
            latents.add(denoiser.encode(batch, generator(SEED, "training/data-scale", k, batch.device)))
    return DataScale(len(chosen), pixels.scale() if pixels.rows else None, latents.scale() if latents.rows else None)


def scale_warnings(scale: DataScale, spec: DenoiserSpec, *, are_pictures: bool = True) -> Iterator[str]:
    """Compares the data with what schedule and target expect; see the module.

    Args:
        scale: of the data.
        spec: of the denoiser.
        are_pictures: whether values have to lie in [-1, 1].

    Yields:
        Warnings, with field and mend.

    Raises:
        DataError: training would be senseless.
    """
    if scale.images is not None:
        expected = None if spec.first_stage is not None else spec.target.data_std
        yield from _of_images(scale.images, expected) if are_pictures else _of_values(scale.images, expected)
    if scale.latents is not None:
        yield from _of_latents(scale.latents, spec)


def _of_images(images: Scale, expected: float | None) -> Iterator[str]:
    size = max(-images.low, images.high)
    values = f"data: images have values from {images.low:.3g} to {images.high:.3g} and standard deviation {images.std:.3g}"
    if images.low == images.high:
        raise DataError(f"data: all values of the images are {images.low:.4g}; give images that are not of one colour")
    if size > LARGEST_PIXEL:
        if size > ABSURD_PIXEL:
            raise DataError(f"{values}; {_to_pixels(images)}")
        yield f"{values}, and samples are clipped to [-1, 1]: {_to_pixels(images)}"
        return
    if 0 <= images.low <= BLACK and images.high > 0.5:
        yield f"{values}, none below mid-grey: if black is 0, {_to_pixels(images)}"
    if images.std < NO_CONTRAST:
        raise DataError(f"{values}, nothing beside the noise; raise their contrast, in [-1, 1]")
    if expected is not None:
        yield from _of_values(images, expected)
    elif images.std < LOW_CONTRAST:
        yield f"{values}, where 0.5 is usual, so that all noise levels are high for them: raise their contrast"


def _of_values(images: Scale, expected: float | None) -> Iterator[str]:
    if expected is not None:
        yield from _of_ratio(images.std, expected, "data: images", f"set model.target.sigma_data: {images.std:.3g}")


def _to_pixels(images: Scale) -> str:
    """The mend of images that are not in [-1, 1]."""
    white = next((white for white in WHITES if images.low >= 0 and white / 2 < images.high <= white), None)
    return "give pixels in [-1, 1]" + ("" if white is None else f", here x / {white / 2:g} - 1")


def _of_latents(latents: Scale, spec: DenoiserSpec) -> Iterator[str]:
    if latents.low == latents.high:
        raise DataError(f"model.first_stage: all latents are {latents.low:.4g}; check training.first_stage_weights")
    assert spec.first_stage is not None
    expected = 1.0 if spec.target.data_std is None else spec.target.data_std
    mend = f"set model.first_stage.scale_factor: {spec.first_stage.scale_factor * expected / latents.std:.4g}"
    if spec.target.data_std is not None:
        mend += f", or model.target.sigma_data: {latents.std:.3g}"
    yield from _of_ratio(latents.std, expected, "model.first_stage: latents", mend)
    stds = ", ".join(f"{std:.3g}" for std in latents.channel_stds)
    means = ", ".join(f"{mean:.3g}" for mean in latents.channel_means)
    within = math.sqrt(sum(std**2 for std in latents.channel_stds) / len(latents.channel_stds))
    if abs(latents.mean) > FAR_MEAN * latents.std or any(abs(mean) > FAR_CHANNEL_MEAN * within for mean in latents.channel_means):
        yield (
            f"model.first_stage: latents have mean {latents.mean:.3g} (by channel: {means}), and standard deviation {within:.3g} in one: "
            "use a first stage with centred latents, as by subtracting the mean from the bias of the encoder's last layer"
        )
    if not all(within / FAR_CHANNEL < std < within * FAR_CHANNEL for std in latents.channel_stds):
        yield (
            f"model.first_stage: channels of the latents have standard deviations {stds}, which one scale factor does not make equal: "
            "use a first stage that normalises each"
        )


def _of_ratio(std: float, expected: float, what: str, mend: str) -> Iterator[str]:
    """Compares a standard deviation with the expected one. Raises: DataError beyond `ABSURD`."""
    text = f"{what} have standard deviation {std:.3g}, where schedule and target expect {expected:g}"
    ratio = max(std / expected, expected / std)
    if ratio > ABSURD:
        raise DataError(f"{text}; {mend}")
    if ratio > FAR:
        yield f"{text}: {mend}"
