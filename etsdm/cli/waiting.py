"""Progress on stderr, so that stdout holds the result alone, and interruption by Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["goes_on", "progress_bar"]

EXIT_INTERRUPTED = 130  # the shell's code for a command that Ctrl-C ended
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


@contextmanager
def goes_on() -> Iterator[None]:
    """Resumable work: Ctrl-C ends the command with a message that the same command continues it."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
