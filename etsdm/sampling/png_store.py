"""Generated images as PNG files, with their protocol.

    job.json            the protocol, its digest, and the number of images requested
    images/000000.png   image k, with the protocol in its text chunks
    grid.png            the first images side by side; archives and animations lie beside it

A folder holds images of one protocol. More of them may be requested later: image k does not depend on their number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from etsdm.errors import IntegrityError
from etsdm.sampling.stores import FolderStore
from etsdm.storage.files import digest_of, replacing, write_atomically
from etsdm.storage.images import png_bytes, to_pil, to_uint8

__all__ = ["PngStore"]

PNG_TRAILER = b"\x00\x00\x00\x00IEND\xaeB`\x82"
LONGEST_VALUE = 24  # characters of a protocol's value in a message

ImageText = Callable[[int], Mapping[str, str]]


class PngStore(FolderStore):
    """A folder of images as PNG files.

    Args:
        path: folder; need not exist.
        protocol: JSON values, everything that an image depends on besides its index.
        text: further text chunks of an image's file by its index, beside index, protocol and digest.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any], text: ImageText = lambda k: {}) -> None:
        super().__init__(path, digest_of(dict(protocol)), path / "images", protocol)
        self.protocol = dict(protocol)
        self.grid_file = path / "grid.png"
        self._text = text

    def _admit(self, job: Mapping[str, Any], n: int) -> None:
        if not job:
            if any(self.images.iterdir()):
                raise IntegrityError(f"{self.path}: holds images without a {self.job_file.name}; give another folder")
        elif job.get("protocol_digest") != self.digest:
            changed = ", ".join(_differences(job.get("protocol", {}), self.protocol)) or "their record"
            raise IntegrityError(f"{self.path}: holds images that differ in {changed}; give another folder, or remove this one")
        elif (last := max(self._stored(), default=-1)) >= n:
            raise IntegrityError(f"{self.path}: holds image {last}, beyond the {n} requested; give {last + 1} or more, or another folder")

    def file(self, k: int) -> Path:
        """Path of image k."""
        return self.images / f"{k:06d}.png"

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored, or cut short."""
        return [k for k in indices if not _is_whole(self.file(k))]

    def is_complete(self, n: int) -> bool:
        """Whether images 0 to n - 1 are stored."""
        return self._stored().issuperset(range(n))

    def _stored(self) -> set[int]:
        names = (entry.name for entry in os.scandir(self.images)) if self.images.exists() else ()
        return {int(name.removesuffix(".png")) for name in names if name.endswith(".png") and name.removesuffix(".png").isdecimal()}

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Writes images, each under a temporary name first. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""
        self.images.mkdir(parents=True, exist_ok=True)
        for k, pixels in zip(indices, to_uint8(images), strict=True):
            # Without the fsync of `write_atomically`: `missing` finds a file that a power failure cut short.
            with replacing(self.file(k)) as file:
                file.write(png_bytes(to_pil(pixels), self.text(k)))

    def text(self, k: int | None = None) -> dict[str, str]:
        """Text chunks of image k, or of the grid without a number."""
        shared = {"protocol_digest": self.digest, "protocol": json.dumps(self.protocol, separators=(",", ":"))}
        return shared if k is None else {"index": str(k), **self._text(k), **shared}

    def put(self, name: str, content: bytes) -> Path:
        """Writes another file beside the images. Returns: its path."""
        write_atomically(self.path / name, content)
        return self.path / name


def _is_whole(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            opened.seek(-len(PNG_TRAILER), os.SEEK_END)
            return opened.read() == PNG_TRAILER
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
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE // 2]}..."
