"""Gaussian mixtures, points of the plane or small images, whose optimal denoiser is known in closed form.

    x = mu_m + s_m z,   m of probability w_m, z standard normal

`etsdm.theory.GaussianMixture(*mixture.parameters())` is the distribution that these images are drawn from.
"""

from __future__ import annotations

from math import isclose, prod
from typing import Annotated, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from etsdm.data.dataset import Dataset
from etsdm.data.images import LoadedImages
from etsdm.data.split import HeldOut, Split, refuse_empty_split
from etsdm.errors import PartError
from etsdm.randomness import generator
from etsdm.registry import datasets
from etsdm.registry.counts import Channels, ImageCount, ImageSize, Seed

__all__ = ["Mixture"]

FLOAT32_BYTES = 4
MAX_BYTES = 2**34  # of all images in memory
FINITE = Field(allow_inf_nan=False)
Values = Annotated[tuple[Annotated[float, FINITE], ...], Field(min_length=1)]


class Points(LoadedImages):
    """Images in memory, the values of which are not confined to [-1, 1]."""

    are_pictures = False


@datasets.register("mixture")
class Mixture(Dataset):
    """Draws from a mixture of isotropic Gaussians, labelled by their component; values are not confined to [-1, 1].

    Attributes:
        means: mean of each component, all its values in the order of `shape`, or one for each channel, which all its pixels have.
        stds: standard deviation of all components, or of each.
        weights: probabilities of the components, which add up to 1; equal by default.
        image_shape: (C, H, W); by default a mean of D values is a point, (D, 1, 1).
        n: number of images.
        held_out: the test split, as a share below 1 or a whole number of images; 0 trains on all.
        seed: of the draws.
    """

    means: tuple[Values, ...] = Field(min_length=1)
    stds: Annotated[NonNegativeFloat, FINITE] | tuple[Annotated[NonNegativeFloat, FINITE], ...] = 0.1
    weights: tuple[PositiveFloat, ...] | None = None
    image_shape: tuple[Channels, ImageSize, ImageSize] | None = None
    n: ImageCount = 10_000
    held_out: HeldOut = 0.1
    seed: Seed = 0

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        components, (channels, *_), values = len(self.means), self.shape, prod(self.shape)
        for k, mean in enumerate(self.means):
            if len(mean) not in (channels, values):
                wanted = f"{values}" if values == channels else f"{values}, or {channels} for one of each channel"
                raise PartError(("means", k), f"has {len(mean)} values, and an image has {'x'.join(map(str, self.shape))}; give {wanted}")
        for name, given in (("stds", self.stds), ("weights", self.weights)):
            if isinstance(given, tuple) and len(given) != components:
                raise PartError(name, f"{len(given)} values for {components} means; give one for each")
        if self.weights is not None and not isclose(sum(self.weights), 1, abs_tol=1e-9):
            raise PartError("weights", f"add up to {sum(self.weights):g}; give probabilities, which add up to 1")
        if (size := FLOAT32_BYTES * self.n * values) > MAX_BYTES:
            raise PartError("n", f"{self.n:,} images of {values:,} values are {size / 1e9:,.0f} GB; give fewer")
        refuse_empty_split(self.n, self.held_out)
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """`image_shape`, or (D, 1, 1)."""
        return self.image_shape or (len(self.means[0]), 1, 1)

    @property
    def num_classes(self) -> int:
        """Number of components."""
        return len(self.means)

    @property
    def are_pictures(self) -> bool:
        """False: a normal distribution has no bounds."""
        return False

    @property
    def holds_out(self) -> bool:
        """Whether `held_out` is above 0."""
        return self.held_out > 0

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means, (M, D), standard deviations, (M,), and weights, (M,), of the M components in D values; float64."""
        count = len(self.means)
        means = torch.stack([torch.tensor(mean, dtype=torch.float64) for mean in map(self._whole, self.means)])
        stds = self.stds if isinstance(self.stds, tuple) else (self.stds,) * count
        weights = self.weights or (1 / count,) * count
        return means, torch.tensor(stds, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)

    def open(self, split: Split) -> Points:
        """Draws the images of a split."""
        means, stds, weights = self.parameters()
        labels = torch.multinomial(weights, self.n, replacement=True, generator=generator(self.seed, "data/mixture/components"))
        noise = torch.randn(self.n, means.shape[1], generator=generator(self.seed, "data/mixture/noise"))
        test = refuse_empty_split(self.n, self.held_out)
        rows = slice(0, test) if split == "test" else slice(test, None)
        labels, noise = labels[rows], noise[rows]
        pixels = means.float()[labels].addcmul_(stds.float()[labels, None], noise)
        return Points(pixels.view(-1, *self.shape), labels)

    def _whole(self, mean: tuple[float, ...]) -> tuple[float, ...]:
        """All values of a mean."""
        _, height, width = self.shape
        return mean if len(mean) == prod(self.shape) else tuple(value for value in mean for _ in range(height * width))
