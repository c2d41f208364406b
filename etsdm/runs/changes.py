"""Reasons for doing a stage again although the folder has an earlier result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etsdm.recipe.compare import Difference, differences, value_text

__all__ = ["change_text", "reasons"]

NO_RECORD = "made by an earlier etsdm, which did not record its settings"
LONGEST_VALUE = 60  # characters
MOST_CHANGES = 8
DIGITS = 8  # of a digest
CONTENTS = {"files.data": "content of data", "files.first_stage_weights": "content of training.first_stage_weights"}
FORMAT = "format", "version of etsdm's computation"


def reasons(recorded: Mapping[str, Any], needed: Mapping[str, Any], *, own: str = "", before: str = "") -> list[str]:
    """The fields in which what a result was made of differs from what the recipe needs now.

    Args:
        recorded: what the earlier result depended on (`etsdm.runs.digests.stage_dependencies`); empty if that was not recorded.
        needed: what the stage depends on now.
        own: section of the stage itself; all others are those of the stages before.
        before: words in place of the fields of the stages before; empty to name these fields.
    """
    if not recorded:
        return [NO_RECORD]
    found = differences(recorded, needed)
    earlier = [change for change in found if before and change.path.partition(".")[0] != own]
    return [*([before] if earlier else []), *_texts([change for change in found if change not in earlier])]


def _texts(changes: Sequence[Difference]) -> list[str]:
    texts = [change_text(change) for change in changes]
    return texts if len(texts) <= MOST_CHANGES else [*texts[: MOST_CHANGES - 1], f"{len(texts) - MOST_CHANGES + 1} more fields"]


def change_text(change: Difference) -> str:
    """One change: the dotted path, the old and the new value."""
    if change.path in CONTENTS:
        old, new = (str(value)[:DIGITS] if isinstance(value, str) else "missing" for value in (change.a, change.b))
        return f"{CONTENTS[change.path]} {old} -> {new}"
    path = FORMAT[1] if change.path == FORMAT[0] else change.path
    return f"{path} {_cut(value_text(change.a))} -> {_cut(value_text(change.b))}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
