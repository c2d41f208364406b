"""`Frozen`, the immutable pydantic base class of parts and recipes, and `format_errors`, which formats its validation errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from etsdm.errors import PartError
from etsdm.registry.docs import field_descriptions
from etsdm.registry.numbers import plain_numbers

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = ["FieldProblem", "Frozen", "cut", "field_error", "format_errors", "quoted", "suggestion"]

Location = tuple[str | int, ...]

MAX_QUOTED = 60  # characters of a value in a message
MAX_COMPARED = 100  # characters of a name for which close ones are looked up; longer ones take long and have none


def suggestion(name: str, known: Iterable[str], noun: str) -> str:
    """Suggests close matches of an unknown name, or else lists all names.

    Args:
        name: the unknown name.
        known: the valid names.
        noun: heading of the full list, for example `"known"`.

    Returns:
        A clause for the end of an error message, without a full stop.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6) if len(name) <= MAX_COMPARED else []
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"{noun}: {', '.join(names) or 'none'}"


def cut(text: str, length: int = MAX_QUOTED) -> str:
    """A text for a message, cut with dots at a number of characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def quoted(value: Any) -> str:
    """The `repr` of a value for a message, cut with dots at 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = f"an integer of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__} of long integers"
    return cut(text)


def field_error(model: str, location: Location, message: str, found: Any = None) -> ValidationError:
    """A validation error on one field, for model validators that compare several fields.

    Args:
        model: name of the model that raises it.
        location: path of the field below that model, for example `("condition_map", "t_tilde")`.
        message: what was found, and the mend.
        found: the invalid value.
    """
    error = PydanticCustomError("etsdm", "{message}", {"message": message})
    return ValidationError.from_exception_data(model, [InitErrorDetails(type=error, loc=location, input=found)])


class Frozen(BaseModel):
    """Base model: immutable, hashable, without unknown fields (the error suggests a close name), NaN or infinity.

    Truth values and text are no numbers, nor numbers and text truth values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=())

    # By fields alone: pydantic also compares cached properties, which may be tensors.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in type(self).model_fields)

    # pydantic's own neither validates the update nor drops cached properties.
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields updated and all validators run; `deep` is ignored, as models are immutable."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_validate({**fields, **(update or {})})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return plain_numbers(handler(source))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        made = handler(schema)
        described = field_descriptions(cls)
        for name, entry in handler.resolve_ref_schema(made).get("properties", {}).items():
            if name in described:
                entry.setdefault("description", described[name])
        return made

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    hint = suggestion(str(key), cls.model_fields, "it has")
                    raise field_error(cls.__name__, (str(key),), f"unknown field; {hint}", value[key])
            return {key: cls._over_default(key, field) for key, field in value.items()}
        return value

    @classmethod
    def _over_default(cls, key: str, value: Any) -> Any:
        """Fields of a part without its `type`, put over the part that the field has by default."""
        default = cls.model_fields[key].default
        if not (isinstance(value, Mapping) and "type" not in value and isinstance(default, Frozen)):
            return value
        name = getattr(default, "type_name", "")
        if not name:  # a section, which completes itself
            return value
        for field in value:
            if field not in type(default).model_fields:
                hint = suggestion(str(field), type(default).model_fields, "it has")
                message = f"is no field of {name!r}, the default (give `type` for another); {hint}"
                raise field_error(cls.__name__, (key, str(field)), message, value[field])
        given = {field: getattr(default, field) for field in default.model_fields_set}
        return {"type": name, **given, **value}


class FieldProblem(NamedTuple):
    """A validation error of one field.

    Fields: location, the path of the field; message, what was found and the mend.
    """

    location: Location
    message: str

    @property
    def field(self) -> str:
        """The dotted path, for example `model.condition_map.n`."""
        return ".".join(str(step) for step in self.location)


# The mend for pydantic's error types.
_EXPECTED = {
    "greater_than": "give a value above {gt}",
    "greater_than_equal": "give {ge} or more",
    "less_than": "give a value below {lt}",
    "less_than_equal": "give {le} or less",
    "multiple_of": "give a multiple of {multiple_of}",
    "finite_number": "give a finite number",
    "literal_error": "give {expected}",
    "int_parsing": "give an integer",
    "int_parsing_size": "give a smaller integer",
    "int_type": "give an integer",
    "int_from_float": "give an integer",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "string_type": "give text",
    "tuple_type": "give a list",
    "list_type": "give a list",
    "dict_type": "give a mapping of names to values",
    "model_type": "give a mapping of fields",
    "model_attributes_type": "give a mapping of fields",
    "too_short": "give {min_length} or more entries",
    "too_long": "give {max_length} or fewer entries",
}


def format_errors(error: ValidationError) -> list[FieldProblem]:
    """Formats the errors of a validation, one message each: what was found, and what to give instead."""
    problems = []
    for item in error.errors(include_url=False):
        kind, location = item["type"], item["loc"]
        if kind == "default_factory_not_called":
            continue  # the default follows from another field, which has its own error
        context = {key: f"{bound:g}" if isinstance(bound, float) else bound for key, bound in item.get("ctx", {}).items()}
        if kind == "missing":
            message = "is required and missing; add it"
        elif kind == "etsdm":
            message = item["msg"]
        elif kind == "value_error":
            cause = item["ctx"]["error"]
            if isinstance(cause, PartError):
                location, message = (*location, *cause.path), cause.message
            else:
                message = f"{quoted(item['input'])}: {cause}"
        elif kind in _EXPECTED:
            message = f"found {quoted(item['input'])}; {_EXPECTED[kind].format(**context)}"
        else:
            message = f"found {quoted(item['input'])}; {item['msg'][:1].lower()}{item['msg'][1:]}"
        problems.append(FieldProblem(location, message))
    return problems
