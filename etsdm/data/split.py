"""Training and test splits, drawn from a seed."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from etsdm.errors import DataError, PartError
from etsdm.randomness import permutation

__all__ = ["HeldOut", "Split", "refuse_empty_split", "split_groups", "split_indices"]

Split = Literal["train", "test"]


MAX_IMAGES = 10**9


def _share_or_number(value: int | float) -> int | float:
    if value > MAX_IMAGES:
        raise ValueError(f"is more than any set of images has; give {MAX_IMAGES:,} or less")
    if value < 0 or (isinstance(value, float) and value >= 1):
        raise ValueError("is no part of the images; give a share below 1, or a whole number of images, 0 for none")
    return value


# Type of a field: the test split as a share in [0, 1), a float, or as a number of images, an int.
HeldOut = Annotated[int | float, AfterValidator(_share_or_number)]


def refuse_empty_split(n: int, held_out: int | float) -> int:
    """Checks a split of n images.

    Args:
        n: number of images.
        held_out: as in `split_indices`.

    Returns:
        The number of held-out images.

    Raises:
        PartError: no image is left for training, or a share above 0 comes to no image.
    """
    test = held_out if isinstance(held_out, int) else round(n * held_out)
    if test >= n:
        raise PartError("held_out", f"{held_out} of {n} images leaves none for training; hold out fewer")
    if held_out and not test:
        raise PartError("held_out", f"{held_out} of {n} images is none; hold out more, or 0 for none")
    return test


def split_indices(n: int, held_out: int | float, seed: int, split: Split) -> Tensor:
    """Draws a split of n images.

    Args:
        n: number of images.
        held_out: size of the test split, a share (float) or a number of images (int).
        seed: of the draw.
        split: the part to return.

    Returns:
        Indices in rising order, int64, (size of the split,).

    Raises:
        DataError: no image is left for training, or a share above 0 comes to no image.
    """
    try:
        test = refuse_empty_split(n, held_out)
    except PartError as error:
        raise DataError(f"data.{error}") from None
    order = permutation(seed, "data/split", 0, n)
    return (order[:test] if split == "test" else order[test:]).sort().values


def split_groups(groups: Tensor, held_out: int | float, seed: int, split: Split) -> Tensor:
    """Draws a split that keeps groups of images together: the test split takes whole groups in a random order, while they fit.

    Args:
        groups: a number for each image, equal in one group, int64, (N,).
        held_out: largest size of the test split, as in `split_indices`.
        seed: as in `split_indices`.
        split: as in `split_indices`.

    Returns:
        Indices in rising order, int64, (size of the split,).

    Raises:
        DataError: as `split_indices`, or no group is as small as the test split.
    """
    numbers, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    room = len(split_indices(len(groups), held_out, seed, "test"))
    taken = torch.zeros(len(numbers), dtype=torch.bool)
    for number in permutation(seed, "data/split", 0, len(numbers)).tolist():
        if sizes[number] <= room:
            taken[number] = True
            room -= int(sizes[number])
    if held_out and not taken.any():
        raise DataError(f"data.held_out: {held_out} is less than any group of images that belong together; hold out more")
    return (taken[group] == (split == "test")).nonzero()[:, 0]
