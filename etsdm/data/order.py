"""The order of training images, as a function of the seed and of images seen."""

from __future__ import annotations

import torch
from torch import Tensor

from etsdm.randomness import permutation

__all__ = ["SampleOrder"]


class SampleOrder:
    """Shuffled epochs: every image once an epoch, in a new random order each time.

    Args:
        n: number of images.
        seed: the run's seed.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.long)

    def indices(self, images_seen: int, count: int) -> Tensor:
        """Indices of the images after the first `images_seen`.

        Args:
            images_seen: number of images before these, over all epochs.
            count: number of images; they may run over the end of an epoch.

        Returns:
            int64, (count,).
        """
        parts = []
        while count:
            epoch, start = divmod(images_seen, self.n)
            part = self._epoch_order(epoch)[start : start + count]
            parts.append(part)
            images_seen += len(part)
            count -= len(part)
        return torch.cat(parts)

    def _epoch_order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._permutation = permutation(self.seed, "data/order", epoch, self.n)
            self._epoch = epoch
        return self._permutation
