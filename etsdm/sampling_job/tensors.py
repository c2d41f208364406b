"""Images as they were drawn, in safetensors files of some in a row each.

    00000000-00000064.safetensors   images 0 to 63, as a tensor `images`
    digest.txt                      the digest that all of them belong to

They are never joined, so memory does not grow with their number: what reads them takes a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from etsdm.errors import IntegrityError
from etsdm.storage.files import write_atomically

__all__ = ["TensorStore"]

FILES = "[0-9]*-[0-9]*.safetensors"


class TensorStore:
    """A folder of images as tensors, which belong to one digest.

    Args:
        folder: need not exist.
        digest: of all that the images depend on; images of another one are not seen.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        self.digest = digest
        self._marker = folder / "digest.txt"

    def claim(self) -> None:
        """Removes the tensors that another digest left in the folder, so that images of this one can be written there."""
        if self._is_ours():
            return
        self._marker.unlink(missing_ok=True)
        for file in self.folder.glob("*.safetensors"):
            file.unlink()
        write_atomically(self._marker, self.digest)

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not there."""
        there = {k for _, held in self._files() for k in held}
        return [k for k in indices if k not in there]

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Puts images there, a file for each run of indices in a row. Args: images: float32, (len(indices), C, H, W)."""
        breaks = [0, *(i for i, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1), len(indices)]
        for begin, end in pairwise(breaks):
            name = f"{indices[begin]:08d}-{indices[end - 1] + 1:08d}.safetensors"
            write_atomically(self.folder / name, save({"images": images[begin:end].contiguous()}))

    def read(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Reads images.

        Args:
            indices: which, in any order, one or more.

        Returns:
            float32, (len(indices), C, H, W).

        Raises:
            IntegrityError: one of them is not there, or its file is damaged.
        """
        wanted = torch.as_tensor(indices, dtype=torch.long)
        order = wanted.argsort(stable=True)
        rising = wanted[order]
        parts, found = [], 0
        for file, held in self._files():
            below = int(torch.searchsorted(rising, held.stop))
            if below > found and rising[found] >= held.start:
                parts.append(_images(file)[rising[found:below] - held.start])
                found = below
        if found < len(rising):
            raise IntegrityError(f"{self.folder}: image {int(rising[found])} is missing; draw the samples again")
        return torch.cat(parts)[order.argsort()]

    def _files(self) -> Iterator[tuple[Path, range]]:
        """In the order of the images."""
        for file in sorted(self.folder.glob(FILES)) if self._is_ours() else ():
            begin, end = file.stem.split("-")
            yield file, range(int(begin), int(end))

    def _is_ours(self) -> bool:
        return self._marker.exists() and self._marker.read_text() == self.digest


def _images(file: Path) -> Tensor:
    try:
        return load_file(file)["images"]
    except (OSError, SafetensorError, KeyError) as error:
        raise IntegrityError(f"{file}: cannot be read ({error}); remove it and draw the samples again") from error
