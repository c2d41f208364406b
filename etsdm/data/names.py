"""Names of many images in little memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import overload

import numpy as np
import torch
from torch import Tensor

from etsdm.errors import DataError

__all__ = ["PackedNames", "image_names"]

ENCODING = "utf-8", "surrogatepass"  # keeps the order of code points, and names that are no UTF-8


class PackedNames(Sequence[str]):
    """Names in one block of bytes, about 8 bytes more than their letters, where a list of str takes 60.

    Args:
        names: in their order.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [name.encode(*ENCODING) for name in names]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._rows: Tensor | None = None

    @classmethod
    def of(cls, names: Sequence[str]) -> PackedNames:
        """The names packed, or as they are where they are packed already."""
        return names if isinstance(names, PackedNames) else cls(names)

    def take(self, rows: Tensor) -> PackedNames:
        """Some of the names. Args: rows: indices, int64, (N,)."""
        taken = object.__new__(PackedNames)
        taken._bytes, taken._ends = self._bytes, self._ends
        taken._rows = rows if self._rows is None else self._rows[rows]
        return taken

    def find(self, name: str) -> int:
        """Index of a name in sorted names. Raises: KeyError if it is not among them."""
        if not self.holds(name):
            raise KeyError(name)
        return bisect_left(self, name)

    def holds(self, name: str) -> bool:
        """Whether a name is among sorted names."""
        k = bisect_left(self, name)
        return k < len(self) and self[k] == name

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = index % len(self) if self._rows is None else int(self._rows[index])
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode(*ENCODING)

    def __iter__(self) -> Iterator[str]:
        return (self[k] for k in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedNames({self[:3]}, {len(self)} names)"


def image_names(found: Iterable[str], place: object) -> tuple[PackedNames, Tensor]:
    """Names of an archive's images in the order of code points, as in a folder.

    Args:
        found: in the archive's order.
        place: the archive, for messages.

    Returns:
        Sorted names, and the index of each in the archive's order, int64, (N,).

    Raises:
        DataError: a name leads out of the archive, or stands there twice.
    """
    names = list(found)
    for name in names:
        if is_outside(name):
            raise DataError(f"{place}: the name {name!r} leads out of it; nothing was read, make the archive anew without such names")
    order = sorted(range(len(names)), key=names.__getitem__)
    for a, b in pairwise(order):
        if names[a] == names[b]:
            raise DataError(f"{place}: the name {names[a]!r} stands there twice; make the archive anew with each image once")
    return PackedNames(names[k] for k in order), torch.tensor(order, dtype=torch.long)


def is_outside(name: str) -> bool:
    """Whether a name, as the path of a file, leads out of its folder or is no path of a file."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or not path.name or ".." in path.parts or "\0" in name or path.parts[0].endswith(":")
