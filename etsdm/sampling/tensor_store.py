"""Generated images as tensors in safetensors files.

    00000000-00000064.safetensors   images 0 to 63, as a tensor `images`
    job.json                        the digest that they belong to

A file holds the images of one write, and readers take a batch at a time, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from etsdm.data import Images, LoadedImages
from etsdm.errors import IntegrityError
from etsdm.sampling.stores import FolderStore
from etsdm.storage.files import write_atomically

__all__ = ["SampledImages", "TensorStore"]

FILE_PATTERN = "[0-9]*-[0-9]*.safetensors"


class TensorStore(FolderStore):
    """A folder of images as tensors.

    Args:
        path: folder; need not exist.
        digest: sha256 of everything that the images depend on; images of another digest are ignored, and `open_for` removes them.
    """

    def __init__(self, path: Path | str, digest: str) -> None:
        super().__init__(path, digest, images=Path(path))

    def _admit(self, job: Mapping[str, Any], n: int) -> None:
        if job.get("protocol_digest") != self.digest:
            # The record first: tensors without one belong to nobody.
            self.job_file.unlink(missing_ok=True)
            for file in self.path.glob("*.safetensors"):
                file.unlink()

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored."""
        stored = {k for _, held in self._files() for k in held}
        return [k for k in indices if k not in stored]

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Stores images, a file for each run of consecutive indices. Args: images: float32, (len(indices), C, H, W)."""
        breaks = [0, *(i for i, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1), len(indices)]
        for begin, end in pairwise(breaks):
            name = f"{indices[begin]:08d}-{indices[end - 1] + 1:08d}.safetensors"
            write_atomically(self.path / name, save({"images": images[begin:end].contiguous()}))

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
            if below > found and rising[found] >= held.start:
                parts.append(_read(file)[rising[found:below] - held.start])
                found = below
        if found < len(rising):
            raise IntegrityError(f"{self.path}: image {int(rising[found])} is missing; generate the samples again")
        return torch.cat(parts)[order.argsort()]

    def _files(self) -> Iterator[tuple[Path, range]]:
        """The files of this digest with the indices of their images, in order."""
        for file in sorted(self.path.glob(FILE_PATTERN)) if self.is_ours() else ():
            begin, end = file.stem.split("-")
            yield file, range(int(begin), int(end))


def _read(file: Path) -> Tensor:
    try:
        return load_file(file)["images"]
    except (OSError, SafetensorError, KeyError) as error:
        raise IntegrityError(f"{file}: cannot be read ({error}); remove it and generate the samples again") from error


class SampledImages(Images):
    """Images 0 to n - 1 of a store, read on demand.

    Args:
        store: holds them.
        n: how many.
        labels: class labels by sample index, int64, (len(indices),); see `Conditions.class_labels`.
        device: of the batches.
    """

    def __init__(self, store: TensorStore, n: int, labels: Callable[[Tensor], Tensor], device: torch.device | str = "cpu") -> None:
        self._store = store
        self._n = n
        self._labels = labels
        self._device = device

    def __len__(self) -> int:
        return self._n

    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        """Images and labels, float32 in [-1, 1]. Raises: IntegrityError if one is missing."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        return LoadedImages(self._store.read(chosen), self._labels(chosen)).to(self._device)

    def digest(self) -> str:
        """The store's digest."""
        return self._store.digest

    def to(self, device: torch.device | str) -> SampledImages:
        """The same images with batches on a device."""
        return SampledImages(self._store, self._n, self._labels, device)
