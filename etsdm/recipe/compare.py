"""When two recipes are the same, and where they differ.

Recipes are compared as validated models, so the spelling does not matter: a bare name, the same part as a mapping, and
defaults written out all have one canonical form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import Enum
from itertools import zip_longest
from typing import Any, NamedTuple

from pydantic import BaseModel

__all__ = ["MISSING", "Difference", "Missing", "canonical", "diff", "fingerprint"]


class Missing(Enum):
    """What `diff` shows on the side that has no such field."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


MISSING = Missing.MISSING


class Difference(NamedTuple):
    """A field in which two recipes differ: its dotted path and the two values."""

    path: str
    a: Any
    b: Any


def canonical(recipe: BaseModel) -> str:
    """The one JSON text of a recipe: all fields, sorted by name, without spaces."""
    return _json(recipe.model_dump(mode="json"))


def fingerprint(recipe: BaseModel) -> str:
    """The SHA-256 of the canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()


def diff(a: BaseModel, b: BaseModel) -> list[Difference]:
    """The fields in which two recipes differ, in the order of `a`; empty if, and only if, the fingerprints agree.

    Parts of different type differ as a whole, and so do lists of plain values; lists of parts are compared entry by entry. A
    field or entry that only one has is `MISSING` in the other.
    """
    return list(_differences((), a.model_dump(mode="json"), b.model_dump(mode="json")))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _differences(path: tuple[str, ...], a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict) and a.get("type") == b.get("type"):
        for key in {**a, **b}:
            yield from _differences((*path, key), a.get(key, MISSING), b.get(key, MISSING))
    elif isinstance(a, list) and isinstance(b, list) and _holds_parts(a) and _holds_parts(b):
        for i, (in_a, in_b) in enumerate(zip_longest(a, b, fillvalue=MISSING)):
            yield from _differences((*path, str(i)), in_a, in_b)
    # Compared as JSON: to Python 1 and true are equal.
    elif a is MISSING or b is MISSING or _json(a) != _json(b):
        yield Difference(".".join(path), a, b)


def _holds_parts(entries: list[Any]) -> bool:
    return any(isinstance(entry, dict) for entry in entries)
