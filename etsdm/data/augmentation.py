"""Random flips and crops of training images, as functions of the seed and of the number of images seen before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.randomness import per_image_uniform

__all__ = ["Augmentation", "Draws"]


class Draws(NamedTuple):
    """Random changes of images, a row each.

    Fields:
        flips: whether to mirror left and right, bool, (N,).
        crops: side of a square as a share of the shorter side, and its place from 0 (left, top) to 1, float64, (N, 3); None for the middle.
    """

    flips: Tensor
    crops: Tensor | None = None

    def flipped(self, images: Tensor) -> Tensor:
        """Mirrors the images, (N, C, H, W), whose `flips` are set."""
        rows = self.flips.to(images.device).view(-1, *[1] * (images.ndim - 1))
        return torch.where(rows, images.flip(-1), images)

    def rows(self, rows: slice | Tensor) -> Draws:
        """Those of some images, a slice or indices."""
        return Draws(self.flips[rows], None if self.crops is None else self.crops[rows])


class Augmentation(NamedTuple):
    """Distribution of random changes.

    Fields:
        flip: mirrors left and right with probability 1/2.
        random_crop: smallest side of a random square, as a share of the shorter side, as guided diffusion's `min_crop_frac`; None for the
            middle square of the whole side.
    """

    flip: bool = False
    random_crop: float | None = None

    def draw(self, seed: int, images_seen: int, count: int) -> Draws | None:
        """The changes of the images after the first `images_seen`, a function of the seed and of each image's number.

        Returns:
            A row for each of `count` images, None where nothing is random.
        """
        if not self.flip and self.random_crop is None:
            return None
        uniform = per_image_uniform(seed, "training/augmentation", images_seen, count)
        flips = (uniform[:, 0] < 0.5) if self.flip else torch.zeros(count, dtype=torch.bool)
        if self.random_crop is None:
            return Draws(flips)
        crops = uniform[:, 1:].clone()
        crops[:, 0] = self.random_crop + (1 - self.random_crop) * crops[:, 0]
        return Draws(flips, crops)
