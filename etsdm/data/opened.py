"""Archives that this process has opened, each once until its files change."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["OpenedOnce", "state_of"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class OpenedOnce(Generic[K, T]):
    """Opens archives, and keeps each open while its files are the same.

    Args:
        open: opens an archive by its key, such as its path.
        state: state of its files, which is another one after a change.
        close: closes one whose files have changed.
    """

    def __init__(self, open: Callable[[K], T], state: Callable[[K], Hashable], close: Callable[[T], object] = lambda opened: None) -> None:
        self._open = open
        self._state = state
        self._close = close
        self._known: dict[K, tuple[Hashable, T]] = {}
        self._renew_lock()
        # A forked process has the archives, but nobody who would release a lock that another thread held.
        os.register_at_fork(after_in_child=self._renew_lock)

    def __call__(self, key: K) -> T:
        """The archive as its files are now."""
        state = self._state(key)
        with self._lock:
            if key in self._known and self._known[key][0] != state:
                self._close(self._known.pop(key)[1])
            if key not in self._known:
                self._known[key] = state, self._open(key)
            return self._known[key][1]

    def last(self, key: K) -> T:
        """The archive as it was opened before, whose images are read as they were listed; opened now if it was not."""
        found = self._known.get(key)
        return self(key) if found is None else found[1]

    def _renew_lock(self) -> None:
        self._lock = Lock()


def state_of(path: Path) -> Hashable:
    """State of a file, which is another one after a change. Raises: OSError if it is not there."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
