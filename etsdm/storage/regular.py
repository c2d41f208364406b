"""Reading of regular files of bounded size: every file of a user or of a run's folder that is read whole is read here."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO

__all__ = ["MAX_IMAGE_BYTES", "UnsuitableFileError", "open_range", "open_regular", "read_range", "read_regular"]

MAX_IMAGE_BYTES = 2**29  # of an encoded image: Pillow decodes no more pixels than have this size in colour, uncompressed

PIECE = 2**16  # bytes that are read at a time


class UnsuitableFileError(OSError):
    """A file that is not regular, or larger than what is read of its kind; `strerror` is the reason, without the path."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading.

    Raises:
        UnsuitableFileError: it is a device, a named pipe, a socket or a folder, which may never end or wait for ever.
        OSError: it cannot be opened.
    """
    try:
        # Without O_NONBLOCK opening a named pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise UnsuitableFileError(path, "it is no regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsuitableFileError(path, "it is no regular file")
    return open(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Reads a regular file.

    Args:
        path: of the file.
        limit: largest number of bytes, whatever size the file system states.

    Raises:
        UnsuitableFileError: it has more, or is not regular.
        OSError: it cannot be read.
    """
    content = bytearray()
    with open_regular(path) as file:
        # Piece by piece, as a buffer is as large as the requested size. A file of the system may read as nothing now, None, or be longer
        # than its size says.
        while len(content) <= limit and (piece := file.read(PIECE)):
            content += piece
    if len(content) > limit:
        raise UnsuitableFileError(path, f"it has more than {limit:,} bytes")
    return bytes(content)


def open_range(path: Path, offset: int, size: int) -> IO[bytes]:
    """Opens a part of a regular file, such as a member of an archive. Args: offset, size: in bytes. Raises: OSError as `open_regular`."""
    return BufferedReader(_Range(open_regular(path), offset, size))


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Reads a part of a regular file.

    Args:
        path: of the file.
        offset, size: in bytes.

    Raises:
        UnsuitableFileError: the file ends before the part does, or is not regular.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        if offset < 0 or size < 0 or offset + size > os.fstat(file.fileno()).st_size:
            raise UnsuitableFileError(path, f"it has no {size:,} bytes from byte {offset:,}, and is cut short or damaged")
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise UnsuitableFileError(path, f"it ended within the {size:,} bytes from byte {offset:,}")
    return content


class _Range(RawIOBase):
    """A part of an open file, as a file of its own. Args: file: at any position; offset, size: in bytes."""

    def __init__(self, file: BufferedReader, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        self._file.seek(self._offset + self._position)
        content = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
