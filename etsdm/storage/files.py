"""Files: atomic writes (a temporary name beside the target, fsync, rename), sha256, JSON records and a lock."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from etsdm.errors import IntegrityError

__all__ = ["atomic_folder", "digest_of", "locked", "open_atomically", "read_record", "sha256_of", "write_atomically", "write_record"]


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of a value: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file's content, or leaves the old one as it was."""
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Gives a temporary file to write to; at the end of the block it becomes `path`, replacing a file of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder to fill; at the end of the block it becomes `path`, replacing a folder of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if path.exists():
            old = _beside(path)
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def read_record(path: Path) -> dict[str, Any]:
    """A JSON record, empty where there is none. Raises: IntegrityError if it is damaged."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise IntegrityError(f"{path}: is no JSON ({error}); remove the file to do its stages again") from None
    if not isinstance(record, dict):
        raise IntegrityError(f"{path}: holds a {type(record).__name__}, a mapping was expected; remove the file to do its stages again")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a JSON record atomically."""
    write_atomically(path, json.dumps(record, indent=2) + "\n")


@contextmanager
def locked(folder: Path, name: str, held: str) -> Iterator[None]:
    """Holds a lock file in a folder, which is made, for the time of a block.

    Args:
        folder: where.
        name: of the lock file.
        held: what to do where another process holds it, for the message.

    Raises:
        IntegrityError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / name, timeout=0):
            yield
    except Timeout:
        raise IntegrityError(f"{folder}: {held}") from None


def _beside(path: Path) -> Path:
    # The leading dot keeps leftovers of a killed process out of every listing of finished work.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
