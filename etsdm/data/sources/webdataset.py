"""Images in tar archives of WebDataset, with random access."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from etsdm.data.dataset import Files
from etsdm.data.encoded import EncodedDataset
from etsdm.data.labels import Labels, labels_of
from etsdm.data.listing import is_image, sampled_fingerprint
from etsdm.data.names import PackedNames, image_names
from etsdm.data.opened import OpenedOnce, state_of
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.registry.optional import optional_library
from etsdm.storage.faults import storage_errors
from etsdm.storage.regular import MAX_IMAGE_BYTES, open_range, open_regular, read_range

__all__ = ["WebDataset"]

LABELS = ("cls", "json")  # extensions of members with the label of an image, in the order of preference
MAX_SHARDS = 100_000
MAX_DIGITS = 40
GROUP = re.compile(r"\{([^{}]*)\}")
MAX_LABEL_BYTES = 2**16  # of a .cls or .json member
BLOCK = tarfile.BLOCKSIZE
REPLACE = "download or make it again"

T = TypeVar("T")


@dataclass(frozen=True)
class Shards:
    """Images in the shards of a data set.

    Attributes:
        paths: of the shards.
        names: of the images, sorted.
        table: shard of each image, and offset and size in bytes of the image and of its `LABELS`, size -1 for none; int64, (N, 7).
        known: labels that were read before, by extension and key.
    """

    paths: tuple[Path, ...]
    names: PackedNames
    table: NDArray[np.int64]
    known: dict[tuple[str, str], Labels]

    def shard(self, name: str) -> Path:
        """Shard of an image."""
        return self.paths[int(self.table[self.names.find(name), 0])]

    def place(self, name: str) -> tuple[Path, int, int]:
        """Shard, offset and size of an image."""
        shard, offset, size = self.table[self.names.find(name), :3].tolist()
        return self.paths[shard], offset, size

    def labels(self, key: str) -> Labels | None:
        """Labels of the images, in the order of `names`. Args: key: of a label in JSON. Raises: DataError if an image has none."""
        for column, extension in enumerate(LABELS):
            places = self.table[:, [0, 3 + 2 * column, 4 + 2 * column]]
            if (places[:, 2] >= 0).any():
                if (extension, key) not in self.known:
                    values = [self._label(k, part, extension, key) for k, part in enumerate(places.tolist())]
                    self.known[extension, key] = labels_of(values, ", ".join(map(str, self.paths[:2])))
                return self.known[extension, key]
        return None

    def _label(self, k: int, part: list[int], extension: str, key: str) -> Any:
        shard, offset, size = part
        place = f"{self.paths[shard]}/{self.names[k]}"
        if not 0 <= size <= MAX_LABEL_BYTES:
            found = "has no" if size < 0 else "has a far too large"
            raise DataError(f"{place}: {found} .{extension} member beside it; label it, or set data.classes=null for no labels")
        content = read_range(self.paths[shard], offset, size)
        try:
            return content.decode().strip() if extension == "cls" else json.loads(content)[key]
        except (ValueError, KeyError, TypeError, RecursionError):
            message = f"its .{extension} member has no label{'' if extension == 'cls' else f' {key!r}'}"
            raise DataError(f"{place}: {message}; name the key with data.label_key, or set data.classes=null for no labels") from None


def shard_paths(pattern: str) -> tuple[Path, ...]:
    """Shards of a pattern: one path, a glob with `*`, or numbers in braces, `train-{0000..0012}.tar`. They need not exist."""
    if "{" in pattern:
        braces = optional_library("braceexpand", "a pattern with braces", "'etsdm[webdataset]'")
        # Counted first, as the library makes them all at once.
        if "{" in GROUP.sub("", pattern) or prod(map(_choices, GROUP.findall(pattern))) > MAX_SHARDS:
            raise DataError(f"data.path: {pattern} has braces in braces, or is more than {MAX_SHARDS:,} shards; give fewer")
        return tuple(map(Path, braces.braceexpand(pattern)))
    return tuple(Path(path) for path in sorted(glob.glob(pattern)))


def _choices(group: str) -> int:
    """Number of texts that braces with this content stand for."""
    first, dots, last = group.partition("..")
    if dots and first.lstrip("-").isdecimal() and last.lstrip("-").isdecimal():
        return abs(int(last) - int(first)) + 1 if len(group) < MAX_DIGITS else MAX_SHARDS + 1
    return group.count(",") + 1


def _index(pattern: str) -> Shards:
    names, rows, paths = list[str](), list[list[int]](), shard_paths(pattern)
    for shard, path in enumerate(paths):
        images, beside = list[tuple[str, int, int]](), dict[tuple[str, str], tuple[int, int]]()
        for member in _members(path):
            key, extension = _key_and_extension(member.name)
            if is_image(member.name):
                images.append((member.name, member.offset_data, member.size))
                if member.size > MAX_IMAGE_BYTES:
                    message = f"has {member.size:,} bytes, and {MAX_IMAGE_BYTES:,} is the limit"
                    raise DataError(f"{path}/{member.name}: {message}; make the archive anew without it")
            elif extension in LABELS:
                beside[key, extension] = member.offset_data, member.size
        for name, offset, size in images:
            key, _ = _key_and_extension(name)
            rows.append([shard, offset, size, *chain.from_iterable(beside.get((key, extension), (0, -1)) for extension in LABELS)])
            names.append(name)
    packed, order = image_names(names, pattern)
    return Shards(paths, packed, np.array(rows, dtype=np.int64).reshape(-1, 3 + 2 * len(LABELS))[order.numpy()], {})


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Files of a tar archive. Raises: DataError if it is none, compressed, or damaged."""
    with open_regular(path) as file:
        if file.read(2) == b"\x1f\x8b":
            raise DataError(f"{path}: is compressed, so its images cannot be read in any order; unpack it with gunzip")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                    if member.isreg() and not member.sparse:
                        yield member
                end = archive.offset
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            raise DataError(f"{path}: is no tar archive, or is cut short or damaged ({error}); {REPLACE}") from None
        # tarfile takes a damaged header for the end, which is a block of zeros.
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            raise DataError(f"{path}: is cut short or damaged at byte {end:,}; {REPLACE}")


def _key_and_extension(name: str) -> tuple[str, str]:
    """The key that the members of one sample share, and the extension, which begins at the first dot of the file's name."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return (path.parent / stem).as_posix(), extension.lower()


opened: OpenedOnce[str, Shards] = OpenedOnce(_index, lambda pattern: tuple(map(state_of, shard_paths(pattern))))


@datasets.register("webdataset")
class WebDataset(EncodedDataset):
    """Images in the tar shards of WebDataset, which are indexed once and read at any place.

    `path` is one archive or a pattern of several, with `*` or with numbers in braces. Images are ordered by their names. Labels come from
    the `.cls` or `.json` member beside an image. Other fields are those of `EncodedDataset`.

    Attributes:
        label_key: of the label in a `.json` member.
    """

    container: ClassVar[str] = "set of shards"

    label_key: str = Field("label", min_length=1)

    @storage_errors()
    def names(self) -> Sequence[str]:
        """Names in the archives. Raises: DataError if one is missing or damaged, or there is no image."""
        paths = self._paths()
        if not paths:
            raise self.missing("is no file, and matches none")
        for path in paths:
            if not path.is_file():
                raise self.missing(f"includes {path.name}, which is no file")
        return opened(str(self.root)).names

    def read(self, name: str) -> bytes:
        return self._part(name, read_range)

    def stream(self, name: str) -> IO[bytes]:
        return self._part(name, open_range)

    def own_labels(self, names: Sequence[str]) -> Labels | None:
        """Those of `.cls` or `.json` members; None without one. Raises: DataError if an image has none."""
        return opened(str(self.root)).labels(self.label_key)

    def location(self, name: str) -> str:
        shards = opened.last(str(self.root))
        return f"{shards.shard(name) if shards.names.holds(name) else self.root}/{name}"

    @storage_errors()
    def files(self) -> Files:
        """The pattern, and a quick fingerprint of the archives."""
        paths = self._paths()
        exist = bool(paths) and all(path.is_file() for path in paths)
        return self._files(sampled_fingerprint(paths) if exist and self.names() else None)

    def _paths(self) -> tuple[Path, ...]:
        return shard_paths(str(self.root))

    def _part(self, name: str, part: Callable[[Path, int, int], T]) -> T:
        try:
            return part(*opened.last(str(self.root)).place(name))
        except KeyError:
            raise DataError(f"{self.root}/{name}: is no longer there; {REPLACE}") from None
        except OSError as error:
            raise DataError(f"{self.location(name)}: cannot be read ({error.strerror}); {REPLACE}") from error
