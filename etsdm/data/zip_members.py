"""Members of a zip archive: listed once, and read at their places by any number of threads and processes, without extraction."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from etsdm.data.names import PackedNames, image_names
from etsdm.errors import DataError
from etsdm.storage.regular import MAX_IMAGE_BYTES, UnsuitableFileError, open_range, open_regular, read_range

__all__ = ["Member", "ZipMembers", "zip_members"]

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, and lengths of name and extra field
ENCRYPTED = 0x1
REPLACE = "download or make the archive again"


class Member(NamedTuple):
    """A file in an archive. Fields: offset of its header; its sizes in bytes, packed and unpacked; crc, CRC-32 of it; how it is packed."""

    offset: int
    packed: int
    size: int
    crc: int
    method: int


class ZipMembers:
    """Files in a zip archive.

    Args:
        path: of the archive.
        names: of the files, sorted.
        table: their `Member` fields, int64, (N, 5).

    Attributes:
        fingerprint: sha256 of names, sizes and CRC-32 of all files.
    """

    def __init__(self, path: Path, names: PackedNames, table: NDArray[np.int64]) -> None:
        self.path = path
        self.names = names
        self._table = table
        content = hashlib.sha256(table[:, [2, 3]].astype("<i8").tobytes())
        for name in names:
            content.update(name.encode("utf-8", "surrogatepass") + b"\0")
        self.fingerprint = content.hexdigest()

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.names.holds(name)

    def member(self, name: str) -> Member:
        """Place of a file. Raises: DataError if there is none of this name."""
        try:
            return Member(*self._table[self.names.find(name)].tolist())
        except KeyError:
            raise DataError(f"{self.path}/{name}: is no longer there; {REPLACE}") from None

    def read(self, name: str) -> bytes:
        """Reads a file. Raises: DataError if it is damaged or the archive has changed."""
        member = self.member(name)
        content = self._unpacked(name, member, member.packed, member.size + 1)
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise DataError(f"{self.path}/{name}: is damaged, its checksum is another one; {REPLACE}")
        return content

    def head(self, name: str, size: int) -> bytes:
        """Reads the first bytes of a file, or all of a shorter one. Raises: DataError as `read`."""
        member = self.member(name)
        return self._unpacked(name, member, min(member.packed, size), size)

    def stream(self, name: str) -> IO[bytes] | None:
        """Opens a file that is stored as it is, None for a compressed one. Raises: DataError as `read`, of its place alone."""
        member = self.member(name)
        if member.method != ZIP_STORED:
            return None
        with self._named_faults(name):
            return open_range(self.path, self._start(member), member.size)

    def start(self, name: str) -> int:
        """Offset of the first byte of a file, packed or not. Raises: DataError as `read`."""
        with self._named_faults(name):
            return self._start(self.member(name))

    def _start(self, member: Member) -> int:
        signature, *lengths = LOCAL_HEADER.unpack(read_range(self.path, member.offset, LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise UnsuitableFileError(self.path, f"no file begins at byte {member.offset:,}")
        return member.offset + LOCAL_HEADER.size + int(sum(lengths))

    def _unpacked(self, name: str, member: Member, packed: int, size: int) -> bytes:
        """The first bytes of a file. Args: packed: bytes to read; size: bytes to return at most, whatever they unpack to."""
        with self._named_faults(name):
            content = read_range(self.path, self._start(member), packed)
            return content[:size] if member.method == ZIP_STORED else zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size)

    @contextmanager
    def _named_faults(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self.path}/{name}: cannot be read ({error.strerror}); {REPLACE}") from error
        except zlib.error as error:
            raise DataError(f"{self.path}/{name}: cannot be unpacked ({error}); {REPLACE}") from None


def zip_members(path: Path, wanted: Callable[[str], bool], limit: int = MAX_IMAGE_BYTES) -> ZipMembers:
    """Lists files of a zip archive.

    Args:
        path: of the archive.
        wanted: whether a file of a name is listed.
        limit: most bytes that one file may have.

    Raises:
        DataError: it is no zip archive or damaged, a name leads out of it or stands there twice, or a file is encrypted, packed in another
            way than deflated, or larger than the limit.
        OSError: it cannot be read.
    """
    infos = [info for info in _infos(path) if not info.is_dir() and wanted(info.filename)]
    for info in infos:
        place = f"{path}/{info.filename}"
        if info.flag_bits & ENCRYPTED:
            raise DataError(f"{place}: is encrypted; make the archive anew without a password")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise DataError(f"{place}: is packed by method {info.compress_type}; make the archive anew, stored or deflated")
        if info.file_size > limit or info.compress_size > limit:
            message = f"would unpack to {info.file_size:,} bytes, and {limit:,} is the limit"
            raise DataError(f"{place}: {message}; nothing was unpacked, make the archive anew without it")
    names, order = image_names((info.filename for info in infos), path)
    rows = [(info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type) for info in infos]
    return ZipMembers(path, names, np.array(rows, dtype=np.int64).reshape(-1, len(Member._fields))[order.numpy()])


def _infos(path: Path) -> list[ZipInfo]:
    try:
        with open_regular(path) as file, ZipFile(file) as archive:
            return archive.infolist()
    except OSError:
        raise
    except (BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise DataError(f"{path}: is no zip archive, or is cut short or damaged ({error}); {REPLACE}") from None
