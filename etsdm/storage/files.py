"""Atomic writes (temporary name beside the target, fsync, rename), sha256 and a file lock."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import FileLock, Timeout

from etsdm.errors import IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.regular import open_regular

__all__ = [
    "atomic_files",
    "atomic_folder",
    "checked_once",
    "digest_of",
    "known_sha256_of",
    "locked",
    "open_atomically",
    "remove_leftovers",
    "replacing",
    "sha256_of",
    "write_atomically",
]

SETTLED_NS = 2 * 10**9  # age of a file whose next change certainly has another time
_TEMPORARY = re.compile(r"\.(.+\.[0-9a-f]{4,}|\d{6,})\.tmp")  # names from `_claim`, and those of images of earlier versions

T = TypeVar("T")


def sha256_of(path: Path) -> str:
    """sha256 of a regular file's content, 64 hexadecimal digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """sha256 of a value's canonical JSON (sorted keys, no spaces), 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file atomically: on failure an existing one is unchanged."""
    encoded = content.encode() if isinstance(content, str) else content
    with open_atomically(path) as file:
        file.write(encoded)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Context with a temporary file that replaces `path` on exit; after an exception `path` is unchanged."""
    if path.is_dir():
        raise IntegrityError(f"{path}: is a folder in the place of a file; remove it")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        with replacing(path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _sync(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """As `open_atomically`, in an existing folder and without fsync: a power failure may cut the file short."""
    with storage_errors(path), _temporary(path, lambda temporary: temporary.touch(exist_ok=False)) as temporary:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Context with a temporary folder that is renamed to `path` on exit; after an exception nothing remains.

    Raises:
        IntegrityError: `path` exists, at entry or, made by another process, on exit.
    """
    with storage_errors(path):
        if path.exists():
            raise _exists(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, Path.mkdir) as temporary:
            yield temporary
            _sync(*filter(Path.is_file, temporary.rglob("*")))
            try:
                temporary.rename(path)
            except OSError as error:
                raise _exists(path) if path.exists() else error from None
        _sync(path.parent)


@contextmanager
def atomic_files(path: Path) -> Iterator[Path]:
    """Context with `path`'s name in a temporary folder; on exit the files there are moved beside `path`, itself the last of them.

    For writers that put a second file beside theirs. After an exception nothing remains. Raises: IntegrityError: one of them exists.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        with _temporary(path, Path.mkdir) as temporary:
            yield temporary / path.name
            written = sorted(temporary.iterdir(), key=lambda file: file.name == path.name)
            _sync(*filter(Path.is_file, temporary.rglob("*")))
            if taken := [target for file in written if (target := path.with_name(file.name)).exists()]:
                raise _exists(taken[0])
            for file in written:
                file.rename(path.with_name(file.name))
            temporary.rmdir()
        _sync(path.parent)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Removes the temporary files and folders of writers that were killed; those of living writers stay.

    Args:
        folder: where they are; folders in it are left alone.
        name: of the file that they were to replace; any by default.
    """
    for path in sorted(folder.glob(".*.tmp")):
        if _TEMPORARY.fullmatch(path.name) and path.name.startswith(f".{name}"):
            with suppress(OSError), _opened(path, os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)


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
def locked(folder: Path, name: str, held: str, also: Iterable[Path] = ()) -> Iterator[None]:
    """Context that holds a lock file in a folder, which is created; leftovers of killed writers are removed from it.

    Args:
        folder: folder of the lock file.
        name: name of the lock file.
        held: message for the case that another process holds the lock: the cause, and the mend.
        also: further folders from which leftovers are removed; they need not exist.

    Raises:
        IntegrityError: another process holds the lock.
    """
    lock = FileLock(folder / name, timeout=0)
    with storage_errors(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise IntegrityError(f"{folder}: {held}") from None
    try:
        for place in (folder, *also):
            remove_leftovers(place)
        yield
    finally:
        lock.release()


def _exists(path: Path) -> IntegrityError:
    return IntegrityError(f"{path}: exists and is not overwritten; remove it, or give another path")


@contextmanager
def _temporary(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary file or folder beside a path, locked so that it is not taken for a leftover, and removed unless it was renamed."""
    temporary, descriptor = _claim(path, make)
    try:
        yield temporary
    except BaseException:
        _remove(temporary)
        raise
    finally:
        os.close(descriptor)


def _claim(path: Path, make: Callable[[Path], object]) -> tuple[Path, int]:
    """Makes and locks a temporary file or folder. Returns: its path, and the descriptor that holds the lock."""
    while True:
        # The leading dot keeps leftovers of a killed process out of every listing of finished work.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        make(temporary)
        try:
            descriptor = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        with suppress(OSError):  # without locks on this file system nobody removes it
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(*paths: Path) -> None:
    for path in paths:
        with _opened(path) as descriptor:
            os.fsync(descriptor)
