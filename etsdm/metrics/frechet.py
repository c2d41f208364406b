"""Frechet distance between Gaussians fitted to pixels."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from etsdm.data import Images, LoadedImages
from etsdm.errors import DataError, PartError
from etsdm.metrics.base import EvaluationInputs, EvaluationPlan, Metric, MetricResult, mean_value
from etsdm.registry import metrics
from etsdm.registry.counts import ImageCount

__all__ = ["PixelFrechet", "frechet_distance", "frechet_distance_of_samples"]

MAX_PIXELS = 12_288  # values of an image, 64x64 in colour: their covariance in float64 has 1.2 GB


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians (Dowson and Landau 1982).

        |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^{1/2} C_b C_a^{1/2})^{1/2})

    Args:
        mean_a: (D,), float64.
        cov_a: (D, D), positive semi-definite, may be singular.
        mean_b: (D,).
        cov_b: (D, D).
    """
    # Eigenvalues of symmetric matrices only, so that singular covariances (constant pixels) do no harm.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def frechet_distance_of_samples(samples: Tensor, mean: Tensor, cov: Tensor) -> float:
    """`frechet_distance` of the Gaussian fitted to samples.

    With centred samples A / sqrt(N - 1) as rows, C_a = A^T A, and the root of the formula has the same trace as (A C_b A^T)^{1/2}, which is
    N x N: fewer samples than dimensions cost no decomposition of a covariance.

    Args:
        samples: (N, D), float64.
        mean: of the other Gaussian, (D,).
        cov: (D, D).
    """
    n, d = samples.shape
    if n > d:
        return frechet_distance(samples.mean(0), samples.T.cov(), mean, cov)
    own = samples.mean(0)
    rows = (samples - own) / (n - 1) ** 0.5
    cross = torch.linalg.eigvalsh(rows @ cov @ rows.T).clamp(min=0).sqrt().sum()
    return float((own - mean).square().sum() + rows.square().sum() + cov.trace() - 2 * cross)


def _distances(images: Images, chunks: int, size: int, train: tuple[Tensor, Tensor]) -> Tensor:
    """Distances of the first `chunks` chunks of `size` images to the training images, float64, (chunks,)."""
    each = (images.batch(range(k * size, (k + 1) * size)) for k in range(chunks))
    return torch.tensor([frechet_distance_of_samples(_flat(chunk), *train) for chunk in each], dtype=torch.float64)


def _flat(images: LoadedImages) -> Tensor:
    return images.pixels.flatten(1).double()


@metrics.register("pixel-frechet")
class PixelFrechet(Metric):
    """Frechet distance to the training images in pixel space, for images of few pixels.

    Its bias depends on the number of images, so samples are divided into `chunks`, and the reference is the mean over held-out
    chunks of the same size.

    Attributes:
        chunks: number of parts of the samples, each of which gives one distance.
    """

    uses_samples: ClassVar[bool] = True
    uses_held_out: ClassVar[bool] = True

    chunks: ImageCount = 4

    def check(self, plan: EvaluationPlan) -> None:
        """Raises PartError if images are too large, or chunks would have fewer than two samples."""
        self._chunk_size(plan.spec.image_shape, plan.n)

    def check_images(self, train: Images, test: Images) -> None:
        """Raises DataError if there are fewer than two training or held-out images, which have no covariance."""
        for images, where, mend in ((train, "for training", "hold out fewer"), (test, "held out", "hold out more")):
            if len(images) < 2:
                raise DataError(f"pixel-frechet: {len(images)} images are {where}, and a covariance needs 2; {mend}")

    def _chunk_size(self, shape: tuple[int, int, int], n: int) -> int:
        """Samples in a chunk. Args: shape: of an image; n: number of samples."""
        if (pixels := math.prod(shape)) > MAX_PIXELS:
            message = f"'pixel-frechet' takes the covariance of all values of an image, {pixels:,} of which are more than {MAX_PIXELS:,}"
            raise PartError("type", f"{message}; leave it out for images of this size")
        if n < 2 * self.chunks:
            fewer = f", or take {n // 2} chunks or fewer" if n > 3 else ", or take one chunk" if n > 1 else ""
            raise PartError("chunks", f"{n} samples do not fill {self.chunks} chunks of 2; draw {2 * self.chunks} or more{fewer}")
        return n // self.chunks

    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """The mean over chunks, its standard error over chunks, and the held-out images' distance.

        Raises:
            PartError: as `check`.
            DataError: as `check_images`.
        """
        largest = self._chunk_size(inputs.denoiser.spec.image_shape, len(inputs.samples))
        test = inputs.test.load()
        self.check_images(inputs.train, test)
        flat = _flat(inputs.train.load())
        train = flat.mean(0), flat.T.cov()
        size = min(len(test), largest)
        value = mean_value(
            _distances(inputs.samples, self.chunks, size, train),
            unit_name=f"chunk of {size} samples",
            reference=float(_distances(test, len(test) // size, size, train).mean()),
            higher_is_better=False,
            description=f"Frechet distance to the training images in pixel space, {size} samples at a time",
        )
        return MetricResult(values={"pixel Frechet": value})
