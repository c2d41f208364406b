"""Images in an LMDB database, such as those of LSUN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from etsdm.data.dataset import Files
from etsdm.data.encoded import EncodedDataset
from etsdm.data.listing import sampled_fingerprint
from etsdm.data.names import PackedNames, image_names
from etsdm.data.opened import OpenedOnce, state_of
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.registry.optional import optional_library
from etsdm.storage.faults import storage_errors
from etsdm.storage.regular import open_regular

__all__ = ["ImageLmdb"]

DATA_FILE = "data.mdb"
KEYS = "utf-8", "surrogateescape"  # of keys as names
MAGIC = b"\xde\xc0\xef\xbe"  # 0xBEEFC0DE, in the first page after its header
REPLACE = "download or copy it again"


class Database:
    """An open database. Args: path: its folder, or the file of one without a folder."""

    def __init__(self, path: Path) -> None:
        lmdb = optional_library("lmdb", "data set 'lmdb'", "'etsdm[lmdb]'")
        file = data_file(path)
        # A file of other content may crash the process as a map of memory.
        with open_regular(file) as opened:
            if MAGIC not in opened.read(64):
                raise DataError(f"{file}: is no LMDB database; {REPLACE}")
        self.path = path
        self._faults: type[Exception] = lmdb.Error
        with self._named_faults():
            self.environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, create=False)
            needed = (self.environment.info()["last_pgno"] + 1) * self.environment.stat()["psize"]
        if (size := file.stat().st_size) < needed:
            self.environment.close()
            raise DataError(f"{file}: is cut short, it has {size:,} of {needed:,} bytes; {REPLACE}")
        with self._named_faults(), self.environment.begin() as transaction, transaction.cursor() as cursor:
            names = [bytes(key).decode(*KEYS) for key in cursor.iternext(keys=True, values=False)]
        self.names: PackedNames = image_names(names, path)[0]

    def read(self, name: str) -> bytes:
        """Reads a value, from any thread and after a fork. Raises: DataError if it is not there."""
        with self._named_faults(), self.environment.begin() as transaction:
            found = transaction.get(name.encode(*KEYS))
        if found is None:
            raise DataError(f"{self.path}/{name}: is no longer there; {REPLACE}")
        return bytes(found)

    def close(self) -> None:
        """Closes the database."""
        self.environment.close()

    @contextmanager
    def _named_faults(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            raise DataError(f"{self.path}: cannot be read as an LMDB database ({error}); {REPLACE}") from error


def data_file(path: Path) -> Path:
    """The file of a database, which has all its content."""
    return path / DATA_FILE if path.is_dir() else path


opened: OpenedOnce[Path, Database] = OpenedOnce(Database, lambda path: state_of(data_file(path)), Database.close)


@datasets.register("lmdb")
class ImageLmdb(EncodedDataset):
    """Encoded images of an LMDB database by their keys, as LSUN is published; read where they are, without a lock file.

    Images are ordered by their keys. Other fields are those of `EncodedDataset`.
    """

    container: ClassVar[str] = "LMDB folder"

    @storage_errors()
    def names(self) -> Sequence[str]:
        """Keys. Raises: DataError if there is no database, it is damaged, or has no entry; LibraryError without the library lmdb."""
        if not self._exists:
            raise self.missing(f"holds no {DATA_FILE}" if self.root.is_dir() else "is no folder")
        return opened(self.root).names

    def read(self, name: str) -> bytes:
        return opened.last(self.root).read(name)

    @storage_errors()
    def files(self) -> Files:
        """The database, and a quick fingerprint of its file."""
        return self._files(sampled_fingerprint([data_file(self.root)]) if self._exists and self.names() else None)

    @property
    def _exists(self) -> bool:
        return data_file(self.root).is_file()
