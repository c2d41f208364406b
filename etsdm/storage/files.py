"""Atomic writes (temporary name beside the target, fsync, rename), sha256 and a file lock."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import FileLock, Timeout

from etsdm.errors import IntegrityError

__all__ = [
    "atomic_folder",
    "checked_once",
    "digest_of",
    "known_sha256_of",
    "locked",
    "open_atomically",
    "sha256_of",
    "write_atomically",
]

SETTLED_NS = 2 * 10**9  # age of a file whose next change certainly has another time

T = TypeVar("T")


def sha256_of(path: Path) -> str:
    """sha256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """sha256 of a value's canonical JSON (sorted keys, no spaces), 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file atomically: on failure an existing one is unchanged."""
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Context with a temporary file that replaces `path` on exit; after an exception `path` is unchanged."""
    if path.is_dir():
        raise IntegrityError(f"{path}: is a folder in the place of a file; remove it")
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
    """Context with a temporary folder that is renamed to `path` on exit; after an exception nothing remains.

    Raises:
        IntegrityError: `path` exists, at entry or, made by another process, on exit.
    """
    if path.exists():
        raise _exists(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        try:
            temporary.rename(path)
        except OSError as error:
            raise _exists(path) if path.exists() else error from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def checked_once(check: Callable[[Path], T]) -> Callable[[Path], T]:
    """Decorator of a check of a file's content: its result is kept in this process while the file is the same."""
    known: dict[Path, tuple[tuple[int, ...], T]] = {}

    def checked(path: Path) -> T:
        found = path.stat()
        signature = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if path in known and known[path][0] == signature:
            return known[path][1]
        result = check(path)
        # A file that was written just now may change once more within the resolution of its times.
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED_NS:
            known[path] = signature, result
        return result

    return checked


@checked_once
def known_sha256_of(path: Path) -> str:
    """sha256 of a file's content as `sha256_of`, computed once in this process while the file is the same."""
    return sha256_of(path)


@contextmanager
def locked(folder: Path, name: str, held: str) -> Iterator[None]:
    """Context that holds a lock file in a folder, which is created.

    Args:
        folder: folder of the lock file.
        name: name of the lock file.
        held: message for the case that another process holds the lock: the cause, and the mend.

    Raises:
        IntegrityError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / name, timeout=0):
            yield
    except Timeout:
        raise IntegrityError(f"{folder}: {held}") from None


def _exists(path: Path) -> IntegrityError:
    return IntegrityError(f"{path}: exists and is not overwritten; remove it, or give another folder")


def _beside(path: Path) -> Path:
    # The leading dot keeps leftovers of a killed process out of every listing of finished work.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
