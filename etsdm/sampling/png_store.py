"""Generated images as PNG files, with their protocol.

    job.json            the protocol, its digest, the number of images requested, and the files made of them
    images/000000.png   image k, with index, protocol and a sha256 in its text chunks
    grid.png            the first images side by side; archives and animations lie beside it

A folder holds images of one protocol. More of them may be requested later: image k does not depend on their number. An image that was
damaged, or whose text names another index or protocol, counts as missing. `job.json` is written again from the images where it is lost.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from torch import Tensor

from etsdm.errors import IntegrityError
from etsdm.sampling.stores import FolderStore
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of, replacing, sha256_of, write_atomically
from etsdm.storage.images import png_bytes, read_sealed_png, to_pil, to_uint8
from etsdm.storage.records import Record, read_record, write_record

__all__ = ["PngStore"]

LONGEST_VALUE = 24  # characters of a protocol's value in a message

ImageText = Callable[[int], Mapping[str, str]]


class _Job(Record):
    """Record of a folder.

    Fields: protocol_digest; images, their number; files made of them, the sha256 of each by name, None for one to be made; protocol.
    """

    protocol_digest: str
    images: PositiveInt
    files: dict[str, str | None]
    protocol: dict[str, Any]


class PngStore(FolderStore):
    """A folder of images as PNG files.

    Args:
        path: folder; need not exist.
        protocol: JSON values, everything that an image depends on besides its index.
        text: further text chunks of an image's file by its index, beside index, protocol and digest.
    """

    def __init__(self, path: Path | str, protocol: Mapping[str, Any], text: ImageText = lambda k: {}) -> None:
        super().__init__(path, digest_of(dict(protocol)), Path(path) / "images")
        self.protocol = dict(protocol)
        self.job_file = self.path / "job.json"
        self.grid_file = self.path / "grid.png"
        self._text = text
        self._whole: set[int] = set()

    @storage_errors()
    def open_for(self, n: int, files: Iterable[str] = (), known: Iterable[str] = ()) -> None:
        """Makes the folder, and records that it holds images 0 to n - 1 of this protocol.

        Files that were made of another number of images are removed; they stay among those to be made.

        Args:
            n: number of images.
            files: names of the files to be made of the images.
            known: names of all files that may have been made of them.

        Raises:
            IntegrityError: the folder cannot be made or written to, or holds something that must not be replaced.
        """
        self._make()
        job = self._admit()
        if (last := max(self._stored(), default=-1)) >= n:
            raise IntegrityError(f"{self.path}: holds image {last}, beyond the {n} requested; give {last + 1} or more, or another folder")
        made = {name: None for name in known if (self.path / name).exists()} | (job.files if job else {})
        made = {**dict.fromkeys(files), **made}
        if job is None or job.images != n:
            for file in (self.grid_file, *(self.path / name for name in made)):
                if not file.is_dir():
                    file.unlink(missing_ok=True)
            made = dict.fromkeys(made)
        record = self._record(n, made)
        if job != record:
            write_record(self.job_file, record)

    def files_to_make(self) -> list[str]:
        """Names of the recorded files that are not there, or not as they were made."""
        job = read_record(self.job_file, _Job)
        files = job.files if job else {}
        return [name for name, made in files.items() if made is None or not _is_file_of(self.path / name, made)]

    def record_files(self, n: int, files: Iterable[str]) -> list[str]:
        """Records files made of n images. Returns: the names of all recorded files."""
        job = read_record(self.job_file, _Job)
        made = {**(job.files if job else {}), **{name: sha256_of(self.path / name) for name in files}}
        record = self._record(n, made)
        if job != record:
            write_record(self.job_file, record)
        return list(made)

    def _record(self, n: int, files: dict[str, str | None]) -> _Job:
        return _Job(protocol_digest=self.digest, images=n, files=dict(sorted(files.items())), protocol=self.protocol)

    def _admit(self) -> _Job | None:
        """The record of a folder of this protocol, None where it has to be written. Raises: IntegrityError for another folder."""
        if self.job_file.is_dir():
            raise IntegrityError(f"{self.job_file}: is a folder in the place of a file; remove it")
        problem = "is missing"
        try:
            job = read_record(self.job_file, _Job)
        except IntegrityError as error:
            job, problem = None, f"cannot be used ({error})"
        # The images themselves say whose they are.
        found = self._protocol_of_images() or (job.protocol if job else None)
        if job is not None and job.protocol_digest == self.digest and found is not None and digest_of(found) == self.digest:
            return job
        if found is None:
            if any(self.images.iterdir()):
                raise IntegrityError(f"{self.path}: holds images without a {self.job_file.name}; give another folder")
            return None
        if digest_of(found) != self.digest:
            changed = ", ".join(_differences(found, self.protocol)) or "their record"
            raise IntegrityError(f"{self.path}: holds images that differ in {changed}; give another folder, or remove this one")
        problem = "is of other images" if job else problem
        warnings.warn(f"{self.job_file}: {problem}; it is written again from the images", stacklevel=3)
        return None

    def _protocol_of_images(self) -> dict[str, Any] | None:
        """The protocol of this store if any image has it, else that in the first whole image, None without one."""
        first = None
        for k in sorted(self._stored()):
            try:
                found = json.loads(read_sealed_png(self.file(k))[0]["protocol"])
            except (IntegrityError, KeyError, ValueError):
                continue
            if not isinstance(found, dict):
                continue
            if digest_of(found) == self.digest:
                return found
            first = first or found
        return first

    def file(self, k: int) -> Path:
        """Path of image k."""
        return self.images / f"{k:06d}.png"

    @storage_errors()
    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored, or not whole; warns of the latter."""
        return [k for k in indices if not self._is_whole(k)]

    def is_complete(self, n: int) -> bool:
        """Whether images 0 to n - 1 are stored and whole."""
        return self._stored().issuperset(range(n)) and not self.missing(range(n))

    def _is_whole(self, k: int) -> bool:
        file = self.file(k)
        if k in self._whole:
            return True
        if not file.exists():
            return False
        if file.is_dir():
            raise IntegrityError(f"{file}: is a folder in the place of an image; remove it")
        try:
            text, _ = read_sealed_png(file)
        except IntegrityError as error:
            problem = str(error)
        else:
            if (text.get("index"), text.get("protocol_digest")) == (str(k), self.digest):
                self._whole.add(k)
                return True
            whose = "another protocol" if text.get("protocol_digest") != self.digest else f"index {text.get('index')}"
            problem = f"{file}: is an image of {whose}"
        warnings.warn(f"{problem}; it is generated again", stacklevel=2)
        return False

    def _stored(self) -> set[int]:
        names = (entry.name for entry in os.scandir(self.images)) if self.images.exists() else ()
        return {int(name.removesuffix(".png")) for name in names if name.endswith(".png") and name.removesuffix(".png").isdecimal()}

    @storage_errors()
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


def _is_file_of(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_of(file) == sha256


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
