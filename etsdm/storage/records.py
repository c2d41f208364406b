"""Records: JSON files sealed with the sha256 of their content, each read through its model.

    {"format": 2, "n": 5, ..., "sha256": "..."}      sha256 of the canonical JSON of all other fields

What is read back is what was written: a record that was changed, cut short, replaced by another kind or never sealed is refused with one
message and the mend.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from etsdm.errors import IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of, write_atomically
from etsdm.storage.regular import UnsuitableFileError, read_regular

__all__ = ["Record", "read_beside", "read_record", "write_record"]

MAX_BYTES = 256 * 2**20  # of a record; a log of a million lines has fewer
SEAL = "sha256"


class Record(BaseModel):
    """Base of records: immutable, without unknown fields, NaN or infinity.

    Attributes:
        FORMAT: number of the format, written as `format`; None for a record whose folder has one.
        MEND: what to do about a damaged one.
        OTHER_FORMAT: what to do about one of another format.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    FORMAT: ClassVar[int | None] = None
    MEND: ClassVar[str] = "remove it and run the recipe again"
    OTHER_FORMAT: ClassVar[str] = "use the etsdm that wrote it"


R = TypeVar("R", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Writes a record atomically, with its seal."""
    values = record.model_dump(mode="json")
    if record.FORMAT is not None:
        values = {"format": record.FORMAT, **values}
    write_atomically(path, json.dumps({**values, SEAL: digest_of(values)}, indent=2, allow_nan=False) + "\n")


def read_record(path: Path, kind: type[R]) -> R | None:
    """Reads a record and verifies its format, its seal and its shape.

    Args:
        path: of the file.
        kind: model of the record.

    Returns:
        The record, None if there is no such file.

    Raises:
        IntegrityError: the file is damaged, no record of this kind, or of another format.
    """
    content = read_beside(path, kind.MEND)
    if content is None:
        return None
    try:
        values = json.loads(content)
        found = digest_of({key: value for key, value in values.items() if key != SEAL}) if isinstance(values, dict) else ""
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: is no JSON ({error}); {kind.MEND}") from None
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: holds a {type(values).__name__}, a mapping was expected; {kind.MEND}")
    _check_format(path, kind, values)
    recorded = values.pop(SEAL, None)
    if recorded is None:
        raise IntegrityError(f"{path}: has no {SEAL} of its content: it was changed, or an earlier etsdm wrote it; {kind.MEND}")
    if recorded != found:
        raise IntegrityError(f"{path}: was changed or damaged: the {SEAL} of its content is not the recorded one; {kind.MEND}")
    values.pop("format", None)
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise IntegrityError(f"{path}: is no {kind.__name__}: {place}: {first['msg']}; {kind.MEND}") from None


def read_beside(path: Path, mend: str) -> bytes | None:
    """Content of a record, or of a file beside it, None if there is none.

    Raises:
        IntegrityError: it is no regular file, or too large; the message ends in the mend.
        StorageError: it cannot be read.
    """
    with storage_errors(path):
        try:
            return read_regular(path, MAX_BYTES)
        except FileNotFoundError:
            return None
        except UnsuitableFileError as error:
            raise IntegrityError(f"{path}: cannot be used: {error.strerror}; {mend}") from None


def _check_format(path: Path, kind: type[Record], values: dict[str, Any]) -> None:
    if kind.FORMAT is not None and values.get("format") != kind.FORMAT:
        found = values.get("format")
        raise IntegrityError(f"{path}: format {found!r} is not known, this etsdm reads format {kind.FORMAT}; {kind.OTHER_FORMAT}")
