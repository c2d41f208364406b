"""Latents on disk: what a first stage made of the images of a data set, in shards of safetensors files.

    latents.json                what they are: image shape, classes, first stage, digests, shards
    train-00000.safetensors     moments, float32, (N, 1 or 2, C, h, w): of each image, and of its mirror image;  labels, int64, (N,)

`moments` is the encoder's output (`FirstStageNetwork.moments`): means and log variances of a `kl` stage, latents without the scale factor
of a `vq` stage. So a training draws from the posterior as if it encoded each image when it is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from torch import Tensor

from etsdm.data.augmentation import Draws
from etsdm.data.images import Images
from etsdm.errors import DataError
from etsdm.storage.files import digest_of
from etsdm.storage.records import Record
from etsdm.storage.tensors import TensorFile

__all__ = ["LATENTS_FILE", "LatentImages", "LatentsRecord", "ShardRecord", "SplitRecord"]

LATENTS_FILE = "latents.json"


class ShardRecord(Record):
    """One file of latents. Fields: n, number of images; file; identity, digest of all that its content depends on."""

    FORMAT: ClassVar[int | None] = 1
    MEND: ClassVar[str] = "remove it and encode again"

    n: int
    file: TensorFile
    identity: str


class SplitRecord(Record):
    """Latents of one split. Fields: images, the digest of the pixels; shards in the order of the images."""

    images: str
    shards: list[ShardRecord]


class LatentsRecord(Record):
    """Record of a folder of latents.

    Fields: image_shape and moments_shape, (C, H, W); num_classes of the labels; flips, whether mirror images are there; first_stage, its
    fields, and weights_sha256 of the file of its weights; splits by name.
    """

    FORMAT: ClassVar[int] = 1
    MEND: ClassVar[str] = "copy the folder again, or encode again"

    image_shape: tuple[int, int, int]
    moments_shape: tuple[int, int, int]
    num_classes: int
    flips: bool
    first_stage: dict[str, Any]
    weights_sha256: str
    splits: dict[str, SplitRecord]


class LatentImages(Images):
    """Moments of one split, read from the shards as they are needed.

    Args:
        folder: of the latents.
        split: its record.
        flips: whether mirror images are there.
    """

    encoded = True

    def __init__(self, folder: Path, split: SplitRecord, flips: bool) -> None:
        self.folder = folder
        self.split = split
        self.flips = flips
        self._ends = list(accumulate(shard.n for shard in split.shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_files", "_labels")}

    @cached_property
    def _files(self) -> list[Any]:
        """Shards, mapped into memory."""
        return [safe_open(self.folder / shard.file.file, "pt") for shard in self.split.shards]

    @cached_property
    def _labels(self) -> Tensor:
        return torch.cat([file.get_tensor("labels") for file in self._files]) if self._files else torch.empty(0, dtype=torch.long)

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        mirrored = [False] * chosen.shape[0] if draws is None else draws.flips.tolist()
        if any(mirrored) and not self.flips:
            raise DataError(f"{self.folder}: holds no mirror images; encode again with training.flip=true, or leave flip out")
        rows = []
        for index, mirror in zip(chosen.tolist(), mirrored, strict=True):
            shard = bisect_right(self._ends, index)
            row = index - (self._ends[shard - 1] if shard else 0)
            rows.append(self._files[shard].get_slice("moments")[row : row + 1, int(mirror) : int(mirror) + 1][0, 0])
        return torch.stack(rows), self._labels[chosen]

    def class_labels(self) -> Tensor:
        return self._labels

    def digest(self) -> str:
        """Digest of the shards' content."""
        return digest_of([shard.file.sha256 for shard in self.split.shards])
