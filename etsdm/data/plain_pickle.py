"""Pickles of plain values and arrays of bytes, read without running anything that they name."""

from __future__ import annotations

import io
import pickle
from typing import Any

__all__ = ["PlainArray", "UnsafePickleError", "load_plain"]


class UnsafePickleError(ValueError):
    """A pickle that names a function or class other than those of numpy's arrays, or is damaged."""


class PlainDtype:
    """Stand-in for numpy.dtype. Args: name: such as `u1`."""

    def __init__(self, name: Any, *options: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


class PlainArray:
    """Stand-in for numpy.ndarray.

    Attributes:
        shape: as it is written, not checked.
        dtype: its name.
        content: the bytes.
    """

    def __init__(self, *options: Any) -> None:
        self.shape: Any = None
        self.dtype: Any = None
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], PlainDtype):
            raise UnsafePickleError("an array has no state of numpy")
        _, self.shape, dtype, _, self.content = state
        self.dtype = dtype.name


STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): PlainArray,
    ("numpy._core.multiarray", "_reconstruct"): PlainArray,
    ("numpy", "ndarray"): PlainArray,
    ("numpy", "dtype"): PlainDtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in STAND_INS:
            raise UnsafePickleError(f"it names {module}.{name}")
        return STAND_INS[module, name]


def load_plain(content: bytes) -> Any:
    """Reads a pickle of dictionaries, lists, numbers, text and arrays; text of Python 2 is bytes, arrays are `PlainArray`.

    Raises:
        UnsafePickleError: it names anything else, or is damaged.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle fails in any way
        raise UnsafePickleError(f"{type(error).__name__}: {error}") from None
