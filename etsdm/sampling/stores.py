"""Stores of samples: tensors in safetensors files, or a PNG for each image.

`TensorStore`

    00000000-00000064.safetensors   images 0 to 63, as a tensor `images`
    digest.txt                      the digest that all of them belong to

They are never joined, so memory does not grow with their number: what reads them takes a batch at a time.

`PngStore`

    job.json            the protocol and its digest, and how many images were asked for
    images/000000.png   image k, with the protocol in its text chunks
    grid.png            the first ones side by side; beside it what else was asked for

A folder holds images of one protocol. It may be asked for more of them later: image k does not depend on how many there are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from etsdm.data import Images, LoadedImages
from etsdm.errors import IntegrityError
from etsdm.storage.files import digest_of, locked, read_record, write_atomically, write_record
from etsdm.storage.images import png_bytes, to_pil, to_uint8

__all__ = ["PngStore", "SampledImages", "TensorStore"]


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

    def open_for(self) -> None:
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


END_OF_PNG = b"\x00\x00\x00\x00IEND\xaeB`\x82"

Facts = Callable[[int], Mapping[str, str]]


class PngStore:
    """Images as PNG files in one folder.

    Args:
        path: need not exist.
        protocol: JSON values, all that an image depends on besides its index.
        facts: what is written into the file of an image, by its index, besides index and digest of the protocol.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any], facts: Facts = lambda k: {}) -> None:
        self.path = path
        self.images = path / "images"
        self.grid_file = path / "grid.png"
        self.protocol = dict(protocol)
        self.digest = digest_of(self.protocol)
        self._facts = facts
        self._job_file = path / "job.json"

    def open_for(self, n: int) -> None:
        """Records that n images of the protocol come here, or have come.

        Raises:
            IntegrityError: the folder cannot be made or written to, or holds something else, or images beyond those.
        """
        self._make()
        job = read_record(self._job_file)
        if not job:
            if any(self.images.iterdir()):
                raise IntegrityError(f"{self.path}: holds images but no {self._job_file.name} that says whose; give another folder")
        elif job.get("protocol_digest") != self.digest:
            changed = ", ".join(_differences(job.get("protocol", {}), self.protocol)) or "its record"
            raise IntegrityError(f"{self.path}: holds images that differ in {changed}; give another folder, or remove this one")
        elif (last := max(self._there(), default=-1)) >= n:
            raise IntegrityError(f"{self.path}: holds image {last}, beyond the {n} asked for; give {last + 1} or more, or another folder")
        if job.get("images") != n:
            write_record(self._job_file, {"protocol_digest": self.digest, "images": n, "protocol": self.protocol})

    def _make(self) -> None:
        if self.path.is_file():
            raise IntegrityError(f"{self.path}: is a file; give a folder")
        try:
            self.images.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IntegrityError(f"{self.images}: cannot be made ({error.strerror}); give another folder") from None
        if not os.access(self.images, os.W_OK):
            raise IntegrityError(f"{self.images}: cannot be written to; give another folder")

    def locked(self, rank: int = 0) -> AbstractContextManager[None]:
        """Holds the share of a rank, so that two processes never draw the same. Raises: IntegrityError if another one does."""
        held = f"another process is drawing here as rank {rank}; wait for it, or give each its own rank"
        return locked(self.path, f".lock-{rank}", held)

    def file(self, k: int) -> Path:
        """Where image k is or will be."""
        return self.images / f"{k:06d}.png"

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not there, or not whole."""
        return [k for k in indices if not _is_whole(self.file(k))]

    def is_complete(self, n: int) -> bool:
        """Whether images 0 to n - 1 are there."""
        return self._there().issuperset(range(n))

    def _there(self) -> set[int]:
        names = (entry.name for entry in os.scandir(self.images)) if self.images.exists() else ()
        return {int(name.removesuffix(".png")) for name in names if name.endswith(".png") and name.removesuffix(".png").isdecimal()}

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Writes images, each under a temporary name first. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""
        self.images.mkdir(parents=True, exist_ok=True)
        for k, pixels in zip(indices, to_uint8(images), strict=True):
            # Without the wait for the disk that `write_atomically` takes: `missing` finds what a power failure leaves of a file.
            temporary = self.images / f".{k:06d}.tmp"
            temporary.write_bytes(png_bytes(to_pil(pixels), self.facts(k)))
            temporary.replace(self.file(k))

    def facts(self, k: int | None = None) -> dict[str, str]:
        """What the file of image k says, or without a number what the grid says."""
        shared = {"protocol_digest": self.digest, "protocol": json.dumps(self.protocol, separators=(",", ":"))}
        return shared if k is None else {"index": str(k), **self._facts(k), **shared}

    def put(self, name: str, content: bytes) -> Path:
        """Writes another file beside the images. Returns: its path."""
        write_atomically(self.path / name, content)
        return self.path / name


def _is_whole(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            opened.seek(-len(END_OF_PNG), os.SEEK_END)
            return opened.read() == END_OF_PNG
    except OSError:
        return False


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The fields in which two protocols differ, as `field (old -> new)`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("type") == new.get("type"):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        values = [value.get("type", "") if isinstance(value, Mapping) else value for value in (old, new)]
        yield f"{path} ({' -> '.join(_short(value) for value in values)})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


class SampledImages(Images):
    """Images 0 to n - 1 of a store, read when they are asked for.

    Args:
        store: where they are.
        n: how many.
        labels: the classes that images of some indices were drawn for, int64, (len(indices),).
        device: where batches come.
    """

    def __init__(self, store: TensorStore, n: int, labels: Callable[[Tensor], Tensor], device: torch.device | str = "cpu") -> None:
        self._store = store
        self._n = n
        self._labels = labels
        self._device = device

    def __len__(self) -> int:
        return self._n

    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        """Some of them, float32 in [-1, 1]. Raises: IntegrityError if one is not there."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        return LoadedImages(self._store.read(chosen), self._labels(chosen)).to(self._device)

    def digest(self) -> str:
        """Of all that they depend on."""
        return self._store.digest

    def to(self, device: torch.device | str) -> SampledImages:
        return SampledImages(self._store, self._n, self._labels, device)
