"""Errors of the operating system and of safetensors as `StorageError`: path, reason and mend."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from etsdm.errors import EtsdmError, StorageError

__all__ = ["storage_error", "storage_errors"]

LONGEST_PATH = 160  # characters of a path in a message
ANOTHER = "give another folder"
MENDS = {
    errno.ENOSPC: f"free some space there, or {ANOTHER}",
    errno.EDQUOT: f"free some space there, or {ANOTHER}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f), or {ANOTHER}",
    errno.EROFS: f"make it writable, or {ANOTHER}",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EISDIR: "a file is expected there: move the folder away, or give another path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "give a path that exists",
    errno.ELOOP: "remove the link, or give another path",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EIO: f"check the disk, or {ANOTHER}",
}
OTHER_MEND = "check the path and the disk it is on"
NOTHING_LOST = "nothing that was saved is lost"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in the messages of safetensors
_TEMPORARY = re.compile(r"^\.(.+)\.[0-9a-f]{8}\.tmp$")  # a name from `etsdm.storage.files`


@contextmanager
def storage_errors(path: Path | None = None) -> Iterator[None]:
    """Context, or decorator of a function, that raises StorageError in place of OSError, safetensors' errors and texts that are no path.

    Args:
        path: what is read or written, for errors that name no file, such as that of a full disk.
    """
    try:
        yield
    except EtsdmError:
        raise
    except (OSError, SafetensorError) as error:
        raise storage_error(error, path) from error
    except ValueError as error:
        if (reason := _why_no_path(error)) is None:
            raise
        where = "" if path is None else f"{_short(path)}: "
        raise StorageError(f"{where}{reason}; give another path; {NOTHING_LOST}") from None


def storage_error(error: OSError | SafetensorError, path: Path | None = None) -> StorageError:
    """The error with path, reason and mend. Args: error: as raised; path: as for `storage_errors`."""
    number = _number(error)
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    place = Path(os.fsdecode(named)) if isinstance(named, (str, bytes, os.PathLike)) else path
    if number in (errno.ENOTDIR, errno.EEXIST) and place is not None and (file := _file_in_the_way(place)):
        return StorageError(f"{_short(file)}: is a file where a folder is needed; give a folder; {NOTHING_LOST}")
    stated = getattr(error, "strerror", None)
    reason = stated or (os.strerror(number) if number else str(error) or type(error).__name__)
    where = "" if place is None else f"{_short(place)}: "
    return StorageError(f"{where}{reason[:1].lower()}{reason[1:]}; {MENDS.get(number, OTHER_MEND)}; {NOTHING_LOST}")


def _why_no_path(error: ValueError) -> str | None:
    """Why a text is no path, None for an error that is about no path."""
    if "embedded null" in str(error):
        return "a name holds a NUL character, which no file's has"
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return "a name holds a character that no file's has"
    return None


def _number(error: OSError | SafetensorError) -> int:
    """The number of an error of the operating system, 0 where it has none."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else 0


def _file_in_the_way(path: Path) -> Path | None:
    """The first part of a path that exists and is no folder."""
    return next((part for part in (*reversed(path.parents), path) if os.path.lexists(part) and not os.path.isdir(part)), None)


def _short(path: Path) -> str:
    """A path in a message: without the temporary names of what is written, and cut in the middle."""
    text = str(Path(*(_TEMPORARY.sub(r"\1", part) for part in path.parts)))
    return text if len(text) <= LONGEST_PATH else f"{text[: LONGEST_PATH // 2]}...{text[-LONGEST_PATH // 2 :]}"
