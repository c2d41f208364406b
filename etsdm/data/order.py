"""The order of training images, as a function of the seed and of images seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.randomness import permutation, stream_seed

__all__ = ["SampleOrder", "WeightedOrder"]

BLOCK = 2**14  # images that have every source in whole numbers


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


class WeightedOrder(SampleOrder):
    """Sources in proportion to weights, each in shuffled epochs of its own.

    A block of `BLOCK` images has a whole number of each source, in a random order; so the number of images that a source has given before
    any image is known without those before.

    Args:
        counts: number of images of each source, whose indices follow each other.
        weights: in proportion to the share of each source.
        seed: the run's seed.
    """

    def __init__(self, counts: Sequence[int], weights: Sequence[float], seed: int) -> None:
        super().__init__(sum(counts), seed)
        self._starts = [sum(counts[:k]) for k in range(len(counts))]
        self._orders = [SampleOrder(n, stream_seed(seed, "data/order/source", k)) for k, n in enumerate(counts)]
        self._shares = self.check_weights(weights)
        self._sources = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(self._shares))
        self._block = -1, torch.empty(0, dtype=torch.long)

    @staticmethod
    def check_weights(weights: Sequence[float]) -> list[int]:
        """Images of each source in a block, by the method of largest remainders. Raises: PartError if a source has none."""
        exact = [BLOCK * weight / sum(weights) for weight in weights]
        shares = [int(value) for value in exact]
        for k in sorted(range(len(exact)), key=lambda k: shares[k] - exact[k])[: BLOCK - sum(shares)]:
            shares[k] += 1
        if 0 in shares:
            k = shares.index(0)
            raise PartError(("weights", k), f"{weights[k]:g} is less than one image in {BLOCK:,}; give more, or leave the source out")
        return shares

    def indices(self, images_seen: int, count: int) -> Tensor:
        parts = []
        while count:
            block, start = divmod(images_seen, BLOCK)
            sources = self._block_sources(block)
            here = sources[start : start + count]
            found = torch.empty(len(here), dtype=torch.long)
            for k, (order, share) in enumerate(zip(self._orders, self._shares, strict=True)):
                rows = here == k
                if wanted := int(rows.sum()):
                    seen = block * share + int((sources[:start] == k).sum())
                    found[rows] = order.indices(seen, wanted) + self._starts[k]
            parts.append(found)
            images_seen += len(here)
            count -= len(here)
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)

    def _block_sources(self, block: int) -> Tensor:
        """Sources of the images of a block."""
        if block != self._block[0]:
            self._block = block, self._sources[permutation(self.seed, "data/order/blocks", block, BLOCK)]
        return self._block[1]
