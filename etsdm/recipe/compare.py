"""Comparison of recipes: canonical form, fingerprint and differences.

Recipes are compared as validated models, so that a bare name, the same part as a mapping, and explicit defaults are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import zip_longest
from typing import Any, NamedTuple

from pydantic import BaseModel

__all__ = ["MISSING", "Difference", "Missing", "canonical", "diff", "differences", "fingerprint", "value_text"]


class Missing(Enum):
    """The value that `diff` gives for a field that a recipe does not have."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


MISSING = Missing.MISSING


class Difference(NamedTuple):
    """A field in which two recipes differ. Fields: path, dotted; a and b, its values."""

    path: str
    a: Any
    b: Any


def canonical(recipe: BaseModel) -> str:
    """The canonical JSON of a recipe: all fields, keys sorted, no spaces."""
    return _json(recipe.model_dump(mode="json"))


def fingerprint(recipe: BaseModel) -> str:
    """The sha256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()


def diff(a: BaseModel, b: BaseModel) -> list[Difference]:
    """The fields in which two recipes differ, in the order of `a`; empty if and only if their fingerprints are equal.

    Parts of different types and lists of plain values are compared as a whole, lists of parts entry by entry. A field or entry that one
    recipe lacks is `MISSING` there.
    """
    return differences(a.model_dump(mode="json"), b.model_dump(mode="json"))


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """As `diff`, of the JSON values of two recipes with all fields."""
    return list(_differences((), a, b))


def value_text(value: Any) -> str:
    """The value of a difference as JSON, or `missing`."""
    return "missing" if value is MISSING else json.dumps(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _differences(path: tuple[str, ...], a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict) and a.get("type") == b.get("type"):
        for key in {**a, **b}:
            yield from _differences((*path, key), a.get(key, MISSING), b.get(key, MISSING))
    elif isinstance(a, list) and isinstance(b, list) and _holds_parts(a) and _holds_parts(b):
        for i, (in_a, in_b) in enumerate(zip_longest(a, b, fillvalue=MISSING)):
            yield from _differences((*path, str(i)), in_a, in_b)
    # Compared as JSON, because 1 == True in Python.
    elif a is MISSING or b is MISSING or _json(a) != _json(b):
        yield Difference(".".join(path), a, b)


def _holds_parts(entries: list[Any]) -> bool:
    return any(isinstance(entry, dict) for entry in entries)
