"""scikit-learn's handwritten digits, which come with that library: real data without a download."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator

from etsdm.data.dataset import Dataset
from etsdm.data.images import LoadedImages
from etsdm.data.split import Split, refuse_empty_split, split_indices
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.registry.counts import Seed

__all__ = ["Digits"]

NUM_IMAGES = 1797
NUM_CLASSES = 10
MAX_LEVEL = 16.0  # pixel values are counts 0..16 of dark pixels in 4x4 blocks


@datasets.register("digits")
class Digits(Dataset):
    """1,797 handwritten digits of 8x8 pixels (UCI Optical Recognition of Handwritten Digits, test part).

    Attributes:
        held_out: share of the images in the test split.
        split_seed: seed of the split.
    """

    held_out: float = Field(0.2, gt=0, lt=1)
    split_seed: Seed = 0

    @model_validator(mode="after")
    def _splits_have_images(self) -> Self:
        refuse_empty_split(NUM_IMAGES, self.held_out)
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 8, 8)."""
        return 1, 8, 8

    @property
    def num_classes(self) -> int:
        """10."""
        return NUM_CLASSES

    def open(self, split: Split) -> LoadedImages:
        """Loads one split. Raises: DataError if scikit-learn's copy has another shape, or a split has no images."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        if bunch.images.shape != (NUM_IMAGES, 8, 8):
            raise DataError(f"digits: found images of shape {bunch.images.shape} in scikit-learn; {(NUM_IMAGES, 8, 8)} was expected")
        pixels = torch.from_numpy(bunch.images).float()[:, None] / (MAX_LEVEL / 2) - 1
        labels = torch.from_numpy(bunch.target).long()
        chosen = split_indices(NUM_IMAGES, self.held_out, self.split_seed, split)
        return LoadedImages(pixels[chosen], labels[chosen])
