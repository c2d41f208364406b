"""Progress of one thing that may take long, on stderr, so that stdout holds the result alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["LateBar", "goes_on"]

INTERRUPTED = 130  # the shell's code for a command that Ctrl-C ended

PATIENCE = 2.0  # seconds before progress is shown
PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal

T = TypeVar("T")


class LateBar:
    """Progress on stderr of what takes longer than two seconds: a bar on a terminal, a line now and then elsewhere.

    Args:
        title: what is done.
        total: how many of `unit`.
        unit: what is counted.
    """

    def __init__(self, title: str, total: int, unit: str = "batches") -> None:
        self._title, self._total, self._unit = title, total, unit
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(title, total=total, rate=unit)
        self._began: tuple[float, int] | None = None
        self._said = time.monotonic() + PATIENCE - PLAIN_EVERY
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
        for done, batch in enumerate(batches):
            self.reached(done)
            yield batch

    def reached(self, done: int) -> None:
        """Shows that so many are done; the speed is that since the first call."""
        now = time.monotonic()
        since, at = self._began = self._began or (now, done)
        rate = (done - at) / (now - since) if done > at else None
        speed = self._unit if rate is None else f"{rate:.3g} {self._unit}/s"
        self._bar.update(self._task, completed=done, rate=speed)
        if not self._console.is_terminal and now - self._said >= PLAIN_EVERY:
            self._said = now
            shown = f", {speed}, {(self._total - done) / rate:.0f} s left" if rate else ""
            self._console.print(f"{self._title} {done}/{self._total} {self._unit}{shown}", highlight=False)


@contextmanager
def goes_on() -> Iterator[None]:
    """Work that the same command takes up again: Ctrl-C says so and ends the command."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
