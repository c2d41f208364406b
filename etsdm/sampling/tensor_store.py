"""Generated images as tensors in safetensors files.

    00000000-00000064.safetensors   images 0 to 63, as a tensor `images`

A file holds the images of one write, and readers take a batch at a time, so memory does not grow with their number. Its metadata has the
digest that the images belong to, their indices, and a sha256 of these and of the images: a file that was damaged, renamed or copied from
elsewhere is none of the store's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from etsdm.data import Draws, Images
from etsdm.errors import IntegrityError
from etsdm.sampling.stores import FolderStore
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import checked_once, digest_of, write_atomically

__all__ = ["SampledImages", "TensorStore"]

FILE_NAME = re.compile(r"([0-9]{8,12})-([0-9]{8,12})\.safetensors")


class TensorStore(FolderStore):
    """A folder of images as tensors.

    Args:
        path: folder; need not exist.
        digest: sha256 of everything that the images depend on; files of another digest and damaged ones are ignored, and `open` removes
            them.
    """

    def __init__(self, path: Path | str, digest: str) -> None:
        super().__init__(path, digest, images=Path(path))

    def open(self) -> None:
        """Makes the folder, and removes all files that hold no images of this digest.

        Raises:
            IntegrityError: the folder cannot be made or written to, or a folder has the name of a file of images.
        """
        self._make()
        for file in self.path.glob("*.safetensors"):
            if file.is_dir():
                raise IntegrityError(f"{file}: is a folder in the place of samples; remove it")
            name = FILE_NAME.fullmatch(file.name)
            if name is None or not self._holds(file, range(int(name[1]), int(name[2]))):
                file.unlink()

    @storage_errors()
    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored, or whose file is damaged."""
        stored = {k for file, held in self._files() if self._holds(file, held) for k in held}
        return [k for k in indices if k not in stored]

    @storage_errors()
    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Stores images, a file for each run of consecutive indices. Args: images: float32, (len(indices), C, H, W)."""
        breaks = [0, *(i for i, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1), len(indices)]
        for first, last in pairwise(breaks):
            begin, end, stored = indices[first], indices[last - 1] + 1, images[first:last].contiguous()
            identity = _Identity(self.digest, begin, end)
            # One key, as safetensors writes several in any order.
            metadata = {"record": json.dumps({**identity._asdict(), "sha256": _seal(stored, identity)})}
            write_atomically(self.path / f"{begin:08d}-{end:08d}.safetensors", save({"images": stored}, metadata))

    @storage_errors()
    def read(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Reads images.

        Args:
            indices: which, in any order, one or more.

        Returns:
            float32, (len(indices), C, H, W).

        Raises:
            IntegrityError: an image is missing, or its file is damaged.
        """
        wanted = torch.as_tensor(indices, dtype=torch.long)
        order = wanted.argsort(stable=True)
        rising = wanted[order]
        parts, found = [], 0
        for file, held in self._files():
            below = int(torch.searchsorted(rising, held.stop))
            if below > found and rising[found] >= held.start and self._holds(file, held):
                parts.append(load_file(file)["images"][rising[found:below] - held.start])
                found = below
        if found < len(rising):
            raise IntegrityError(f"{self.path}: image {int(rising[found])} is missing, or its file is damaged; generate the samples again")
        return torch.cat(parts)[order.argsort()]

    def _files(self) -> Iterator[tuple[Path, range]]:
        """All files of images with the indices in their names, in order."""
        for file in sorted(self.path.glob("*.safetensors")):
            if name := FILE_NAME.fullmatch(file.name):
                yield file, range(int(name[1]), int(name[2]))

    def _holds(self, file: Path, held: range) -> bool:
        """Whether a file is whole and holds these images of this digest."""
        return file.is_file() and _identity(file) == _Identity(self.digest, held.start, held.stop)


class _Identity(NamedTuple):
    """Images of a file. Fields: digest that they belong to; begin, end, their indices."""

    digest: str
    begin: int
    end: int


@checked_once
def _identity(file: Path) -> _Identity | None:
    """The images of a file, None if it is damaged."""
    try:
        with safe_open(file, "pt") as opened:
            record = json.loads((opened.metadata() or {})["record"])
            images = opened.get_tensor("images")
        identity = _Identity(record["digest"], record["begin"], record["end"])
        whole = record["sha256"] == _seal(images, identity)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    fits = images.dtype == torch.float32 and images.ndim == 4 and len(images) == identity.end - identity.begin
    return identity if whole and fits and bool(images.isfinite().all()) else None


def _seal(images: Tensor, identity: _Identity) -> str:
    seal = hashlib.sha256(digest_of([*identity, str(images.dtype), list(images.shape)]).encode())
    seal.update(images.numpy().tobytes())
    return seal.hexdigest()


class SampledImages(Images):
    """Images 0 to n - 1 of a store, read on demand.

    Args:
        store: holds them.
        n: how many.
        labels: class labels by sample index, int64, (len(indices),); see `Conditions.class_labels`.
    """

    def __init__(self, store: TensorStore, n: int, labels: Callable[[Tensor], Tensor]) -> None:
        self._store = store
        self._n = n
        self._labels = labels

    def __len__(self) -> int:
        return self._n

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """Images, float32 in [-1, 1], and labels. Raises: IntegrityError if one is missing."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        images = self._store.read(chosen)
        return (images if draws is None else draws.flipped(images)), self._labels(chosen)

    def digest(self) -> str:
        """The store's digest."""
        return self._store.digest
