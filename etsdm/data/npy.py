"""Headers of numpy's array files inside zip archives, read before anything is allocated."""

from __future__ import annotations

import io
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from etsdm.data.zip_members import ZipMembers
from etsdm.errors import DataError

__all__ = ["ArrayHeader", "array_header"]

MAX_HEADER = 2**14  # bytes of a header, of which numpy itself accepts 10,000
REPLACE = "write it anew with numpy.savez"


class ArrayHeader(NamedTuple):
    """Header of an array. Fields: shape; dtype; size of the header in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


def array_header(members: ZipMembers, name: str) -> ArrayHeader:
    """Reads the header of an array in C order.

    Raises:
        DataError: it is no array, one of Python objects, which are pickles, or its declared size is not that of its bytes.
    """
    place = f"{members.path}/{name}"
    stream = io.BytesIO(members.head(name, MAX_HEADER))
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError, SyntaxError, TypeError) as error:
        raise DataError(f"{place}: is no array of numpy, or is damaged ({error}); {REPLACE}") from None
    if dtype.hasobject:
        raise DataError(f"{place}: holds Python objects, which are not read, as that could run a program; {REPLACE} as plain numbers")
    if fortran and len(shape) > 1:
        raise DataError(f"{place}: is in Fortran order; {REPLACE} as numpy.ascontiguousarray")
    header, size = stream.tell(), members.member(name).size
    if header + prod(shape) * dtype.itemsize != size:
        raise DataError(f"{place}: declares {dtype} of {shape}, and has {size - header:,} bytes; {REPLACE}")
    return ArrayHeader(shape, dtype, header)
