"""Libraries that are needed only for one format, imported when it is used."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from etsdm.errors import EtsdmError

__all__ = ["LibraryError", "optional_library"]


class LibraryError(EtsdmError, ImportError):
    """A library that is not installed."""


def optional_library(name: str, purpose: str, install: str) -> ModuleType:
    """Imports a library. Args: install: what to install, such as an extra of etsdm. Raises: LibraryError: it is missing."""
    if find_spec(name) is None:
        raise LibraryError(f"{name}: is not installed, and {purpose} needs it; pip install {install}")
    return import_module(name)
