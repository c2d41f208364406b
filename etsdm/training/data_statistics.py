"""Statistics of all training images, read as a training reads them: mean and deviation of each channel, and classes.

One epoch of `etsdm.data.TrainingLoader` is read: in the order of the seed, decoded, cropped and flipped as the recipe says, and in float32.
The standard deviation over all values is what target `edm` and its preconditioning call sigma_data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from etsdm.data import Images, TrainingLoader
from etsdm.storage.records import Record
from etsdm.training.config import Training
from etsdm.training.data_scale import Moments

__all__ = ["DataStatistics", "measure_statistics"]


class DataStatistics(Record):
    """Statistics of a data set.

    Attributes:
        data_digest: sha256 of everything that determines pixels and labels, `Images.digest`.
        images: number of images.
        shape: (C, H, W) of an image.
        augmentation: flips and random crops that were drawn.
        seed: of order, flips and crops.
        channel_means: in [-1, 1].
        channel_stds: standard deviation of each channel.
        mean: over all values.
        std: standard deviation over all values, sigma_data.
        low: lowest value.
        high: highest value.
        class_counts: images of each class.
    """

    FORMAT: ClassVar[int] = 1
    MEND: ClassVar[str] = "remove it and measure the data again"

    data_digest: str
    images: int
    shape: list[int]
    augmentation: dict[str, Any]
    seed: int
    channel_means: list[float]
    channel_stds: list[float]
    mean: float
    std: float
    low: float
    high: float
    class_counts: list[int]


def measure_statistics(
    images: Images, training: Training, *, seed: int = 0, workers: int = 0, progress: Callable[[int, int], None] = lambda done, total: None
) -> DataStatistics:
    """Measures all training images as a training sees them in its first epoch.

    Args:
        images: the training split.
        training: batch size and augmentation.
        seed: of order, flips and crops.
        workers: threads that read images ahead.
        progress: called with the number of images that are done, and of all.

    Raises:
        DataError: an image cannot be read, or has values that are not finite.
    """
    n = len(images)
    loader = TrainingLoader(images, seed, batch_size=training.batch_size, end=n, augmentation=training.augmentation, workers=workers)
    moments, shape = Moments("data: images", "give finite pixels in [-1, 1]"), [0]
    for seen in range(0, n, training.batch_size):
        pixels = loader.batch(seen).pixels
        shape = list(pixels.shape[1:])
        moments.add(pixels)
        progress(seen + len(pixels), n)
    scale = moments.scale()
    return DataStatistics(
        data_digest=images.digest(),
        images=n,
        shape=shape,
        augmentation=training.augmentation._asdict(),
        seed=seed,
        channel_means=list(scale.channel_means),
        channel_stds=list(scale.channel_stds),
        mean=scale.mean,
        std=scale.std,
        low=scale.low,
        high=scale.high,
        class_counts=images.class_labels().bincount().tolist(),
    )
