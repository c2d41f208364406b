"""Source locations of a recipe's values, and the errors that name them."""

from __future__ import annotations

from dataclasses import dataclass

from etsdm.errors import RecipeError

__all__ = ["COMMAND_LINE", "FieldPath", "SourceLocation", "recipe_error"]

# The path of a field: names, and indices in lists.
FieldPath = tuple[str | int, ...]

_MAX_FIELD = 200  # characters of a path in a message


@dataclass(frozen=True)
class SourceLocation:
    """The source location of a value: the file as the user named it, and the line from 1, None for the command line."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


COMMAND_LINE = SourceLocation("command line")


def recipe_error(path: FieldPath, message: str, location: SourceLocation | None) -> RecipeError:
    """A `RecipeError` with the text `field.path: message (file:line)`, without an empty path or unknown location."""
    field = ".".join(str(step) for step in path)
    if len(field) > _MAX_FIELD:
        field = f"{field[: _MAX_FIELD // 2]}...{field[-_MAX_FIELD // 4 :]}"
    where = f" ({location})" if location else ""
    return RecipeError(f"{field}: {message}{where}" if field else f"{message}{where}")
