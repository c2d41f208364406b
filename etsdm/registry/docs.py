"""Descriptions of fields, from the `Attributes:` section of a class's docstring (Google style)."""

from __future__ import annotations

import inspect
import re
from functools import cache

__all__ = ["field_descriptions"]

_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")


@cache
def field_descriptions(cls: type) -> dict[str, str]:
    """One sentence for each field that the docstrings of a class and its bases describe."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= _attributes(base.__dict__.get("__doc__") or "")
    return found


def _attributes(doc: str) -> dict[str, str]:
    _, _, section = inspect.cleandoc(doc).partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
