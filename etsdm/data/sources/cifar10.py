"""CIFAR-10 in its published version for Python."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import ClassVar

import torch
from torch import Tensor

from etsdm.data.dataset import Files
from etsdm.data.images import LoadedImages
from etsdm.data.listing import read_file, sampled_fingerprint
from etsdm.data.plain_pickle import PlainArray, UnsafePickleError, load_plain
from etsdm.data.split import Split
from etsdm.data.stored import StoredDataset
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.registry.paths import FilePath
from etsdm.storage.faults import storage_errors
from etsdm.storage.regular import open_regular

__all__ = ["CIFAR10"]

FOLDER = "cifar-10-batches-py"
NUM_CLASSES, SIZE, CHANNELS = 10, 32, 3
VALUES = CHANNELS * SIZE * SIZE
MAX_BATCH = 2**26  # bytes of a file, twice that of the published ones
# md5 of the published files, as torchvision has them too.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
FILES: dict[Split, tuple[str, ...]] = {"train": tuple(name for name in MD5 if name != "test_batch"), "test": ("test_batch",)}
REPLACE = "download it again"


@datasets.register("cifar10")
class CIFAR10(StoredDataset):
    """60,000 colour images of 32x32 pixels in ten classes (Krizhevsky 2009), 50,000 for training and 10,000 held out, as published.

    `path` is the published archive, or the folder that it unpacks to. Its files are pickles, of which only numbers and bytes are read:
    nothing that a pickle names is run.

    Attributes:
        verify: whether the files have to be the published ones, by md5.
    """

    container: ClassVar[str] = "folder or archive"

    path: FilePath = "data/cifar-10-python.tar.gz"
    source: str = "the CIFAR-10 python version, cifar-10-python.tar.gz, 163 MB: see https://www.cs.toronto.edu/~kriz/cifar.html"
    verify: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, 32, 32)."""
        return CHANNELS, SIZE, SIZE

    @property
    def num_classes(self) -> int:
        """10."""
        return NUM_CLASSES

    @property
    def _expected(self) -> str:
        return f"{', '.join(MD5)}, or an archive of them in {FOLDER}"

    @storage_errors()
    def check(self) -> None:
        """Looks for the files and reads none of them. Raises: DataError if they are missing."""
        if self.root.is_dir():
            for name in MD5:
                if not (self._folder / name).is_file():
                    raise self.missing(f"has no file {name}")
        elif not self.root.is_file():
            raise self.missing("is no file or folder")

    @storage_errors()
    def files(self) -> Files:
        """The archive or folder, and a quick fingerprint of its files."""
        found = [self.root] if self.root.is_file() else [self._folder / name for name in MD5]
        return Files(self.path, sampled_fingerprint(found) if all(file.is_file() for file in found) else None)

    @storage_errors()
    def open(self, split: Split) -> LoadedImages:
        """Loads one split, 8-bit levels. Raises: DataError if a file is missing, damaged, or with `verify` another one than published."""
        self.check()
        contents = self._from_archive(split) if self.root.is_file() else {name: self._checked(name) for name in FILES[split]}
        levels, labels = zip(*(self._parse(name, contents[name]) for name in FILES[split]), strict=True)
        return LoadedImages(torch.cat(levels), torch.cat(labels))

    @property
    def _folder(self) -> Path:
        below = self.root / FOLDER
        return below if below.is_dir() else self.root

    def _checked(self, name: str, content: bytes | None = None) -> bytes:
        content = read_file(self._folder / name) if content is None else content
        if self.verify and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != MD5[name]:
            message = f"has md5 {found}, and the published file has {MD5[name]}"
            raise DataError(f"{self.root}: {name} {message}; {REPLACE}, or set data.verify=false for files of another origin")
        return content

    def _from_archive(self, split: Split) -> dict[str, bytes]:
        """Contents of a split's files, read in the order of the archive."""
        found = {}
        try:
            with open_regular(self.root) as file, tarfile.open(fileobj=file, mode="r:*") as archive:
                while (member := archive.next()) is not None:
                    if member.size > MAX_BATCH:
                        message = f"holds {member.name} of {member.size:,} bytes, and {MAX_BATCH:,} is the limit"
                        raise DataError(f"{self.root}: {message}; nothing was unpacked, {REPLACE}")
                    path = PurePosixPath(member.name)
                    if path.name in FILES[split] and path.parts[:-1] == (FOLDER,) and (content := archive.extractfile(member)):
                        found[path.name] = self._checked(path.name, content.read())
        except (tarfile.TarError, EOFError, ValueError, zlib.error, OSError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.root}: is no tar archive, or is cut short or damaged ({error}); {REPLACE}") from error
        for name in FILES[split]:
            if name not in found:
                raise self.missing(f"has no file {FOLDER}/{name}")
        return found

    def _parse(self, name: str, content: bytes) -> tuple[Tensor, Tensor]:
        """Levels, uint8, (N, 3, 32, 32), and labels of a file."""
        place = f"{self.root}: {name}"
        try:
            found = load_plain(content)
        except UnsafePickleError as error:
            raise DataError(f"{place} is no plain pickle of arrays ({error}); nothing in it was run, {REPLACE}") from None
        array, labels = (found.get(b"data"), found.get(b"labels")) if isinstance(found, dict) else (None, None)
        levels = array.content if isinstance(array, PlainArray) else None
        if (
            not isinstance(levels, bytes)
            or not isinstance(labels, list)
            or len(levels) != VALUES * len(labels)
            or not all(type(label) is int and 0 <= label < NUM_CLASSES for label in labels)
        ):
            raise DataError(f"{place} does not hold {VALUES} levels and one label of 0 to {NUM_CLASSES - 1} for each image; {REPLACE}")
        pixels = torch.frombuffer(bytearray(levels), dtype=torch.uint8).view(-1, CHANNELS, SIZE, SIZE)
        return pixels, torch.tensor(labels, dtype=torch.long)
