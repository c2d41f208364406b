"""Progress of one thing that may take long, on stderr, so that stdout holds the result alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import Progress

__all__ = ["LateBar"]

PATIENCE = 2.0  # seconds before progress is shown
PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal

T = TypeVar("T")


class LateBar:
    """Progress on stderr of what takes longer than two seconds: a bar on a terminal, a line now and then elsewhere.

    Args:
        title: what is done.
        total: number of batches.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._console = Console(stderr=True)
        self._bar = Progress(console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(title, total=total)
        # Also while the first batch is still under way.
        self._timer = threading.Timer(PATIENCE, self._bar.start)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        self._timer.join()
        self._bar.stop()

    def passing(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, counted when the next one is asked for."""
        said = time.monotonic() + PATIENCE - PLAIN_EVERY
        for done, batch in enumerate(batches):
            self._bar.update(self._task, completed=done)
            if not self._console.is_terminal and (now := time.monotonic()) - said >= PLAIN_EVERY:
                said = now
                self._console.print(f"{self._title} {done}/{self._total} batches", highlight=False)
            yield batch
