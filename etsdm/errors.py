"""Errors: `EtsdmError` and its kin for users of recipes, files and the command line, `PartError` for the mathematics.

Every message names the place (file, line, field), what was found, what was expected, and the mend. The command line prints the
message of an `EtsdmError` alone and exits with its `exit_code`.
"""

from __future__ import annotations

import re

__all__ = [
    "CheckpointError",
    "DataError",
    "EtsdmError",
    "IntegrityError",
    "PartError",
    "RecipeError",
    "RegistryError",
    "StorageError",
    "printable",
]


LONGEST_WORD = 400  # characters of a message without a space between them, such as a path


def printable(text: str) -> str:
    """Text with escape sequences for characters that cannot be printed, as in names of files, and long words cut; line breaks stay."""
    escaped = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return re.sub(rf"(\S{{{LONGEST_WORD // 2}}})\S+(\S{{{LONGEST_WORD // 2}}})", r"\1...\2", escaped)


class PartError(ValueError):
    """A value that a schedule, a sampler or another part refuses, with its field kept apart from the message.

    Code with a larger view (a recipe, a command's options) puts its own path before `path`; nothing has to read the text.

    Args:
        field: the argument or field, for example `"t_end"`; dotted or a tuple where it is a field of a field.
        message: what was found, and the mend.

    Attributes:
        path: the field as a tuple, for example `("grid", "at")`.
        message: the message without the field.
    """

    def __init__(self, field: str | tuple[str | int, ...], message: str) -> None:
        super().__init__(field, message)
        self.path: tuple[str | int, ...] = tuple(field.split(".")) if isinstance(field, str) else field
        self.message = message

    @property
    def field(self) -> str:
        """The dotted path, for example `grid.at`."""
        return ".".join(str(step) for step in self.path)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class EtsdmError(Exception):
    """Base of all errors with a message for the user, of which every character is printable and no word is longer than a path."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class RegistryError(EtsdmError, ValueError):
    """An unknown or duplicate name of a part, a plug-in that does not load, or a refused field."""


class RecipeError(EtsdmError, ValueError):
    """A recipe that cannot be read or is not valid, or a wrong option of a command."""


class CheckpointError(EtsdmError):
    """A folder without a checkpoint, or a checkpoint that does not fit the denoiser."""


class DataError(EtsdmError):
    """Missing, unreadable or unexpected training or evaluation data."""


class IntegrityError(EtsdmError):
    """A damaged file, a run that another process holds, or a training whose numbers are no longer finite."""


class StorageError(EtsdmError, OSError):
    """A file or folder that cannot be read or written: a full or read-only disk, missing permissions, a name that is too long."""
