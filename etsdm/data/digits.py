"""scikit-learn's handwritten digits, embedded in that library: real data that needs no network."""

from __future__ import annotations

import torch
from pydantic import Field

from etsdm.data.base import Dataset, LoadedImages, Split
from etsdm.errors import DataError
from etsdm.randomness import permutation
from etsdm.registry import datasets

__all__ = ["Digits"]

DIGITS = 1797
CLASSES = 10
LARGEST = 16.0  # pixel values are counts 0..16 of dark pixels in 4x4 blocks


@datasets.register("digits")
class Digits(Dataset):
    """1,797 handwritten digits of 8x8 pixels (UCI Optical Recognition of Handwritten Digits, test part)."""

    held_out: float = Field(0.2, gt=0, lt=1)
    split_seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 8, 8)."""
        return 1, 8, 8

    @property
    def num_classes(self) -> int:
        """Ten digits."""
        return CLASSES

    def open(self, split: Split) -> LoadedImages:
        """Images in [-1, 1]; `split_seed` decides which are held out.

        Raises:
            DataError: scikit-learn's copy is not the one that is known.
        """
        from sklearn.datasets import load_digits

        bunch = load_digits()
        if bunch.images.shape != (DIGITS, 8, 8):
            raise DataError(f"digits: found images of shape {bunch.images.shape} in scikit-learn; {(DIGITS, 8, 8)} was expected")
        pixels = torch.from_numpy(bunch.images).float()[:, None] / (LARGEST / 2) - 1
        labels = torch.from_numpy(bunch.target).long()
        order = permutation(self.split_seed, "data/split", 0, DIGITS)
        test = round(DIGITS * self.held_out)
        chosen = (order[:test] if split == "test" else order[test:]).sort().values
        return LoadedImages(pixels[chosen], labels[chosen])
