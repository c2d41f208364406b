"""Images that are prepared already, kept beside the result until all are, so that a preparation that was stopped goes on.

    F.unfinished/request.json     how the images are decoded
    F.unfinished/images.log       a line for each finished image: sha256 of its original, of its PNG and of its pixels
    F.unfinished/ab/ab....png     the PNG, by the sha256 of its original

An image is looked up by the content of its original: files that were repaired, removed or added since make no other image stale.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, NamedTuple

from etsdm.errors import IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import locked, replacing, sha256_of
from etsdm.storage.records import Record, read_record, write_record
from etsdm.storage.regular import open_regular

__all__ = ["Finished", "Unfinished"]

REQUEST, LOG = "request.json", "images.log"
LINE = re.compile(rb"[0-9a-f]{64} [0-9a-f]{64} [0-9a-f]{64}")
HELD = "another process prepares these images; wait for it, or end it"


class Finished(NamedTuple):
    """sha256 of a finished image, 32 bytes each. Fields: of its original's content; of its PNG file; of its shape and pixels."""

    original: bytes
    png: bytes
    pixels: bytes


class Request(Record):
    """Settings of a preparation. Attributes: decoding, as of `Originals`; pillow, the version that decodes and encodes."""

    FORMAT: ClassVar[int] = 1
    MEND: ClassVar[str] = "remove its folder and prepare the images again"

    decoding: dict[str, Any]
    pillow: str


class Unfinished:
    """Finished images of a preparation.

    Args:
        folder: created if it is not there.
        decoding: what the pixels depend on, besides the originals.

    Raises:
        IntegrityError: the folder holds something else, or images that were decoded in another way.
    """

    def __init__(self, folder: Path, decoding: dict[str, Any]) -> None:
        from PIL import __version__

        self.folder = folder
        self._request = Request(decoding=decoding, pillow=__version__)
        self._known: dict[bytes, Finished] = {}
        self._lock = Lock()
        self._log = -1

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Context in which images are added; no other process is in it."""
        self._refuse_others()
        with locked(self.folder, "lock", HELD), storage_errors(self.folder):
            self._check_request()
            self._log = os.open(self.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                self._read_log()
                yield
            finally:
                os.close(self._log)

    def find(self, original: bytes) -> Finished | None:
        """An image that was finished before and is whole. Args: original: sha256 of its original, 32 bytes."""
        found = self._known.get(original)
        try:
            return found if found and sha256_of(self.file(found)) == found.png.hex() else None
        except OSError:
            return None

    def add(self, original: bytes, png: bytes, pixels: bytes) -> Finished:
        """Keeps a finished image.

        Args:
            original, pixels: as of `Finished`.
            png: the file's content.

        Raises:
            StorageError: it cannot be written.
        """
        found = Finished(original, hashlib.sha256(png).digest(), pixels)
        file = self.file(found)
        with storage_errors(file):
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as opened:
                opened.write(png)
            with self._lock:
                self._known[original] = found
                self._append(" ".join(part.hex() for part in found))
        return found

    def file(self, image: Finished) -> Path:
        """The PNG file of an image."""
        name = image.original.hex()
        return self.folder / name[:2] / f"{name}.png"

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _refuse_others(self) -> None:
        with storage_errors(self.folder):
            if self.folder.is_dir() and not (self.folder / REQUEST).exists() and any(f.name != "lock" for f in self.folder.iterdir()):
                raise IntegrityError(f"{self.folder}: holds no unfinished images of a preparation; move it away, or give another place")

    def _check_request(self) -> None:
        path = self.folder / REQUEST
        found = read_record(path, Request)
        if found is None:
            write_record(path, self._request)
        elif found != self._request:
            was, now = ({**one.decoding, "pillow": one.pillow} for one in (found, self._request))
            changed = ", ".join(f"{key} {was.get(key)!r}, not {now.get(key)!r}" for key in {**was, **now} if was.get(key) != now.get(key))
            mend = "finish it so, or remove this folder to begin again"
            raise IntegrityError(f"{self.folder}: holds an unfinished preparation with {changed}; {mend}")

    def _read_log(self) -> None:
        with open_regular(self.folder / LOG) as log:
            line = b"\n"
            for line in log:
                if LINE.fullmatch(line.rstrip(b"\n")):
                    one = Finished(*(bytes.fromhex(part.decode()) for part in line.split()))
                    self._known[one.original] = one
        if not line.endswith(b"\n"):  # cut short by a kill
            self._append("")

    def _append(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode())
