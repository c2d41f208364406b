"""The folder of a job: a PNG for each image, and the protocol that all of them were drawn by.

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
from pathlib import Path
from typing import Any

from torch import Tensor

from etsdm.errors import IntegrityError
from etsdm.storage.files import digest_of, locked, read_record, write_atomically, write_record
from etsdm.storage.images import picture_of, pixels_of, png_bytes

__all__ = ["JobFolder"]

END_OF_PNG = b"\x00\x00\x00\x00IEND\xaeB`\x82"
Facts = Callable[[int], Mapping[str, str]]


class JobFolder:
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

    def claim(self, n: int) -> None:
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
        for k, pixels in zip(indices, pixels_of(images), strict=True):
            # Without the wait for the disk that `write_atomically` takes: `missing` finds what a power failure leaves of a file.
            temporary = self.images / f".{k:06d}.tmp"
            temporary.write_bytes(png_bytes(picture_of(pixels), self.facts(k)))
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
