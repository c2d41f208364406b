"""Reading of regular files of bounded size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_regular"]


def read_regular(path: Path, limit: int) -> bytes | None:
    """Reads a regular file, None if it has more than `limit` bytes.

    Raises:
        OSError: it cannot be read, or is a device, a named pipe, a socket or a folder, which may never end or wait for ever.
    """
    # Without O_NONBLOCK opening a named pipe waits for a writer.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        content = file.read(limit + 1)
    # A file of the system may read as nothing now, None, or be longer than its size says.
    return (content or b"") if len(content or b"") <= limit else None
