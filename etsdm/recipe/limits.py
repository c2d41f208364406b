"""Limits on the size of a recipe, so that a hostile or mistaken one is refused at once instead of filling time and memory.

They hold for a file with all that it extends, for a mapping, and for each override. The paper's recipes have about 2 kB and 60 values.
"""

from __future__ import annotations

from etsdm.recipe.locations import FieldPath, SourceLocation, recipe_error

__all__ = [
    "MAX_ARMS",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_FILES",
    "MAX_LEVELS",
    "MAX_OVERRIDES",
    "MAX_PROBLEMS",
    "MAX_VALUES",
    "TOO_DEEP",
    "TOO_MANY",
    "Budget",
    "check_key",
    "check_scalar",
]

MAX_BYTES = 250_000  # of a recipe with all that it extends
MAX_VALUES = 10_000  # with those of aliases, which can expand to more than fits into memory
MAX_DEPTH = 50  # of mappings and lists in each other; a step of a dotted key counts as one
MAX_NAME = 100  # characters of a key
MAX_TEXT = 4096  # characters of a text; the longest path of most systems
MAX_BITS = 1023  # of an integer; larger ones are no floats
MAX_FILES = 50  # that a recipe extends, directly or not
MAX_LEVELS = 10  # of files that extend files
MAX_ARMS = 100
MAX_OVERRIDES = 1000
MAX_PROBLEMS = 20  # that one message lists

TOO_DEEP = f"values are nested in more than {MAX_DEPTH} levels; write them flatter"
TOO_MANY = f"there are more than {MAX_VALUES:,} values, aliases counted as often as they stand there; write fewer"


class Budget:
    """The number of values that a document may still have."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def spend(self, path: FieldPath, location: SourceLocation | None) -> None:
        """Counts one value. Raises: RecipeError if there are too many, or it is nested too deep."""
        self._left -= 1
        if self._left < 0:
            raise recipe_error((), TOO_MANY, location)
        if len(path) > MAX_DEPTH:
            raise recipe_error(path, TOO_DEEP, location)


def check_key(key: str, path: FieldPath, location: SourceLocation | None) -> None:
    """Checks a key, which may be dotted. Raises: RecipeError if it or a step of it is too long, or it has too many steps."""
    steps = key.split(".")
    if len(path) + len(steps) > MAX_DEPTH:
        raise recipe_error(path, f"a key of {len(steps):,} steps; {TOO_DEEP}", location)
    if (longest := max(map(len, steps))) > MAX_NAME:
        raise recipe_error(path, f"a name of {longest:,} characters; give {MAX_NAME} or fewer", location)


def check_scalar(value: object, path: FieldPath, location: SourceLocation | None) -> None:
    """Checks a text or an integer. Raises: RecipeError if it is too long."""
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise recipe_error(path, f"a text of {len(value):,} characters; give {MAX_TEXT:,} or fewer", location)
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise recipe_error(path, f"an integer of about {value.bit_length() * 0.30103:,.0f} digits; give a shorter number", location)
