"""Plug-ins: entry points of other distributions, found without loading them, and loaded so that none can end a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any

from etsdm.errors import RegistryError

__all__ = ["find_plugins", "load_plugin", "origin_of"]

LONGEST_CAUSE = 200  # characters of a plug-in's own error in a message


def find_plugins(group: str) -> tuple[dict[str, list[EntryPoint]], list[str]]:
    """The entry points of a group by name, each value once, and messages of the distributions that cannot be read."""
    found: dict[str, list[EntryPoint]] = {}
    broken: list[str] = []
    for point in _points(group, broken):
        of_name = found.setdefault(point.name, [])
        if point.value not in [other.value for other in of_name]:
            of_name.append(point)
    return found, broken


def _points(group: str, broken: list[str]) -> Iterator[EntryPoint]:
    try:
        yield from entry_points(group=group)
    except Exception:
        # One distribution with damaged metadata fails the search; without it there are all others.
        for distribution in distributions():
            try:
                yield from distribution.entry_points.select(group=group)
            except Exception as error:
                place = getattr(distribution, "_path", None) or "a distribution"
                broken.append(f"the entry points of {place} cannot be read: {_cause(error)}; install it again or remove it")


def load_plugin(point: EntryPoint) -> Any:
    """Imports the object of an entry point. What it prints goes to stderr.

    Raises:
        RegistryError: it raised anything, or ended the process by `sys.exit`; only Ctrl-C passes.
    """
    try:
        with redirect_stdout(sys.stderr):
            return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RegistryError(f"the plug-in {origin_of(point)} does not load: {_cause(error)}; mend it or remove it") from error


def origin_of(point: EntryPoint) -> str:
    """An entry point with its distribution, for messages."""
    try:
        return f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value
    except Exception:  # without metadata
        return point.value


def _cause(error: BaseException) -> str:
    try:
        text = " ".join(repr(error).split())
    except Exception:
        text = type(error).__name__
    return text if len(text) <= LONGEST_CAUSE else f"{text[:LONGEST_CAUSE]}..."
