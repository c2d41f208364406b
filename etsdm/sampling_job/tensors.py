"""Images as they were drawn, in safetensors files of some in a row each, until they are put into one tensor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from etsdm.atomic import write_atomically

__all__ = ["TensorStore"]

DIGEST_FILE = "digest.txt"


class TensorStore:
    """A folder of images as tensors, which belongs to one digest: what another one left there is removed.

    Args:
        folder: need not exist.
        digest: of all that the images depend on.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        marker = folder / DIGEST_FILE
        if not marker.exists() or marker.read_text() != digest:
            self.remove()
            write_atomically(marker, digest)

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

    def read(self, n: int) -> Tensor:
        """Images 0 to n - 1, all of which have to be there. Returns: float32, (n, C, H, W)."""
        drawn = torch.empty(0)
        for file, held in self._files():
            images = load(file.read_bytes())["images"]
            if not len(drawn):
                drawn = images.new_empty(n, *images.shape[1:])
            wanted = range(held.start, min(held.stop, n))
            drawn[wanted.start : wanted.stop] = images[: len(wanted)]
        return drawn

    def remove(self) -> None:
        """Removes the folder and all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> Iterator[tuple[Path, range]]:
        for file in sorted(self.folder.glob("[0-9]*.safetensors")):
            begin, end = file.stem.split("-")
            yield file, range(int(begin), int(end))
