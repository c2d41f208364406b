"""Options that several commands share, and errors that name the option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer

__all__ = [
    "ConditionMapOption",
    "JsonOption",
    "SamplerOption",
    "ScheduleOption",
    "StepsOption",
    "TargetOption",
    "WeightsOption",
    "is_pattern",
    "option_errors",
    "parse_labels",
    "parse_part",
    "parse_range",
    "parse_weights",
    "refuse",
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SamplerOption = Annotated[
    str | None, typer.Option(help="A name (`etsdm parts samplers`) or {type: ..., ...}; by default that of the recipe, else ddim.")
]
StepsOption = Annotated[int | None, typer.Option(help="Number of steps; by default the sampler's own.", min=1)]
WeightsOption = Annotated[str, typer.Option(help="ema for the moving average, or current for the weights that training had.")]
ScheduleOption = Annotated[str | None, typer.Option(help="Noise schedule, a name or {type: ..., ...}.")]
TargetOption = Annotated[str | None, typer.Option(help="Prediction target, a name or {type: ..., ...}; eps by default.")]
ConditionMapOption = Annotated[
    str | None, typer.Option(help="Condition map, a name or {type: ..., ...}; by default the denoiser's own, identity without one.")
]


@contextmanager
def option_errors(option: str, fields: Mapping[str, str] | None = None) -> Iterator[None]:
    """Names the option in errors of its value.

    Args:
        option: with its dashes; the path of a `PartError` follows it.
        fields: other options by the first field of a path, for example `{"steps": "--steps"}`.

    Raises:
        RecipeError: in place of ValueError and DataError.
    """
    from etsdm.errors import DataError, PartError, RecipeError

    try:
        yield
    except PartError as error:
        first, *rest = (str(step) for step in error.path)
        place = [fields[first]] if fields and first in fields else [option, first]
        raise RecipeError(f"{'.'.join([*place, *rest])}: {error.message}") from None
    except (DataError, ValueError) as error:
        raise RecipeError(f"{option}: {error}") from None


def parse_part(registry: str, option: str, text: str) -> Any:
    """A part by its name or a YAML mapping `{type: ..., ...}`. Raises: RecipeError that names option and field."""
    from pydantic import ValidationError

    from etsdm.errors import RecipeError
    from etsdm.recipe.locations import COMMAND_LINE
    from etsdm.recipe.yaml import compose
    from etsdm.registry import REGISTRIES, format_errors

    node = compose(text, lambda line: COMMAND_LINE, (option,))
    try:
        return REGISTRIES[registry].parse(None if node is None else node.plain)
    except ValidationError as error:
        problems = [f"{'.'.join([option, problem.field])}: {problem.message}" for problem in format_errors(error)]
        raise RecipeError("\n".join(problems)) from None
    except ValueError as error:
        raise RecipeError(f"{option}: {error}") from None


def parse_labels(text: str) -> list[int]:
    """Class labels from `3`, `0,1,2` or `0:10`. Raises: RecipeError."""
    from etsdm.errors import RecipeError

    try:
        numbers = [int(number) for number in text.split(":" if ":" in text else ",")]
        labels = list(range(*numbers)) if ":" in text else numbers
    except (ValueError, TypeError):
        labels = []
    if not labels:
        raise RecipeError(f"--labels: {text!r} are no labels; give 3, 0,1,2 or 0:10")
    return labels


def parse_range(option: str, text: str, example: str) -> tuple[float, float]:
    """Two numbers with a colon between them. Raises: RecipeError."""
    from etsdm.errors import RecipeError

    try:
        low, high = (float(number) for number in text.split(":"))
    except ValueError:
        raise RecipeError(f"{option}: {text!r} is no interval; give two numbers, as {example}") from None
    return low, high


def is_pattern(name: str) -> bool:
    """Whether a name has wildcards, as a shell's patterns do."""
    return any(sign in name for sign in "*?[")


def parse_weights(text: str) -> Literal["ema", "current"]:
    """The weights of a checkpoint. Raises: RecipeError."""
    from etsdm.errors import RecipeError

    found: dict[str, Literal["ema", "current"]] = {"ema": "ema", "current": "current"}
    if text not in found:
        raise RecipeError(f"--weights: {text!r} are unknown weights; give ema or current")
    return found[text]


def refuse(options: Mapping[str, object], reason: str) -> None:
    """Raises RecipeError for the first option that has a value."""
    from etsdm.errors import RecipeError

    for option, value in options.items():
        if value is not None:
            raise RecipeError(f"{option}: {reason}; leave it out")
