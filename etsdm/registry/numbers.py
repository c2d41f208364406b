"""Validation of numbers without pydantic's conversions: `true` is not 1, and `"12"` is not 12."""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

__all__ = ["plain_numbers"]

# Keys of a core schema below which no schema of a field is.
_OTHER_KEYS = {"default", "metadata", "serialization", "expected", "config"}


def plain_numbers(schema: CoreSchema) -> CoreSchema:
    """A core schema whose integers, floats and truth values are not converted from text or each other; 1e6 stays an integer."""
    return cast(CoreSchema, _replaced(schema))


def _replaced(node: Any) -> Any:
    if isinstance(node, list):
        return [_replaced(entry) for entry in node]
    if isinstance(node, tuple):
        return tuple(_replaced(entry) for entry in node)
    if not isinstance(node, dict) or _is_checked(node):
        return node
    kind = node.get("type")
    if _is_number(node) or (kind == "union" and all(_is_number(choice) for choice in node["choices"])):
        return core_schema.no_info_before_validator_function(_number, cast(CoreSchema, node))
    if kind == "literal" and any(isinstance(value, int) for value in node["expected"]):
        return core_schema.no_info_before_validator_function(_Literal(node["expected"]), cast(CoreSchema, node))
    if kind == "bool":
        return {**node, "strict": True}
    return {key: entry if key in _OTHER_KEYS else _replaced(entry) for key, entry in node.items()}


def _is_number(node: Any) -> bool:
    return isinstance(node, dict) and node.get("type") in ("int", "float")


def _is_checked(node: dict[str, Any]) -> bool:
    function = node.get("function")
    checked = isinstance(function, dict) and function.get("function")
    return checked is _number or isinstance(checked, _Literal)


class _Literal:
    """Refuses `true` for 1, and 1 for `true`. Args: expected: the values of the field."""

    def __init__(self, expected: list[Any]) -> None:
        self.expected = expected

    def __call__(self, value: Any) -> Any:
        if any(value == known and isinstance(value, bool) != isinstance(known, bool) for known in self.expected):
            choices = " or ".join(str(known).lower() if isinstance(known, bool) else str(known) for known in self.expected)
            raise PydanticCustomError("not_expected", "give {choices}", {"choices": choices})
        return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("etsdm", "found {value}; give a number", {"value": "true" if value else "false"})
    if isinstance(value, str) and _reads_as_number(value):
        raise PydanticCustomError("not_a_number", "give a number without quotes")
    return value


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:  # pydantic refuses the text by itself
        return False
    return True
