"""Progress on stderr, so that stdout holds the result alone, and interruption by Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["goes_on", "progress_bar"]

EXIT_INTERRUPTED = 130  # the shell's code for a command that Ctrl-C ended
EXIT_TERMINATED = 143  # and that SIGTERM ended
BAR_DELAY_S = 2.0
TERMINAL_INTERVAL_S = 0.1
LOG_INTERVAL_S = 10.0  # between updates where stderr is no terminal
LOG_FORMAT = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def progress_bar(title: str, total: int, unit: str, *, initial: int = 0, of: Iterable[Any] | None = None) -> tqdm[Any]:
    """A bar that appears after two seconds, with updates every ten seconds where stderr is no terminal.

    Args:
        title: of the work.
        total: number of units.
        unit: name of the units.
        initial: units that are done already and do not count for the rate.
        of: iterable that advances the bar; without one, call `update`.
    """
    from tqdm import tqdm

    style: dict[str, Any]
    if sys.stderr.isatty():
        style = {"mininterval": TERMINAL_INTERVAL_S, "leave": False, "dynamic_ncols": True}
    else:
        style = {"mininterval": LOG_INTERVAL_S, "leave": True, "bar_format": LOG_FORMAT}
    # With one unit as the least step tqdm starts no thread that refreshes the bar on its own.
    return tqdm(of, title, total, file=sys.stderr, unit=f" {unit}", initial=initial, delay=BAR_DELAY_S, miniters=1, **style)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends work as Ctrl-C does."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


@contextmanager
def goes_on() -> Iterator[None]:
    """Resumable work: Ctrl-C or SIGTERM ends the command with a message that the same command continues it."""
    # Python lets the main thread alone set handlers.
    catches = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if catches else None
    try:
        yield
    except KeyboardInterrupt as error:
        terminated = isinstance(error, _Terminated)
        typer.echo(f"{'terminated' if terminated else 'interrupted'}; run the same command again to go on", err=True)
        raise typer.Exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED) from None
    finally:
        if catches:
            signal.signal(signal.SIGTERM, before)
