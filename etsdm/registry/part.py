"""`Part`: an interchangeable component, which is its own configuration.

A part is a frozen pydantic model with methods. The base class of a family (`Schedule`, `ConditionMap`, ...) names its registry:

    class Schedule(Part, family=schedules): ...

As the type of a field, `Schedule` is then an open tagged union: the field accepts an instance, a mapping
`{type: linear, timesteps: 1000}` or the bare name `linear`, and validates to an instance of the registered class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError, core_schema

from etsdm.errors import RegistryError
from etsdm.registry.frozen import Frozen, field_error, quoted
from etsdm.registry.numbers import plain_numbers

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = ["FAMILY_KEY", "Part"]

# Key of the placeholder that `json_schema` replaces by a reference to a registry's union.
FAMILY_KEY = "x-etsdm-registry"


class Family(Protocol):
    """The side of a `Registry` that a part needs to validate fields of its family."""

    name: str

    def parse(self, value: Any) -> Any:
        """Makes a part from an instance, a mapping with a `type`, or a bare name."""


class Part(Frozen):
    """Base class of registered components.

    Attributes:
        family: the registry of this kind of part.
        type_name: registered name of the class, and the `type` of its dump.
    """

    family: ClassVar[Family]
    type_name: ClassVar[str] = ""
    _is_root: ClassVar[bool] = False

    def __init_subclass__(cls, family: Family | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_root = family is not None
        cls.type_name = ""
        if family is not None:
            cls.family = family

    @model_validator(mode="before")
    @classmethod
    def _strip_type(cls, value: Any) -> Any:
        # Runs before `_refuse_unknown_fields`: pydantic calls before-validators of a subclass first.
        if isinstance(value, Mapping) and "type" in value:
            if value["type"] != cls.type_name:
                raise field_error(
                    cls.__name__, ("type",), f"found {quoted(value['type'])}; only {cls.type_name!r} fits here", value["type"]
                )
            return {key: field for key, field in value.items() if key != "type"}
        return value

    @model_serializer(mode="wrap")
    def _add_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type_name, **handler(self)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if not cls._is_root:
            return plain_numbers(handler(source))

        def parse(value: Any) -> Any:
            try:
                return cls.family.parse(value)
            except RegistryError as error:
                raise PydanticCustomError("etsdm", "{message}", {"message": str(error)}) from None

        def dump(value: Any, info: core_schema.SerializationInfo) -> Any:
            return value.model_dump(mode=info.mode, context=info.context)

        dumped = core_schema.plain_serializer_function_ser_schema(dump, info_arg=True)
        return core_schema.no_info_plain_validator_function(parse, serialization=dumped)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if cls._is_root:
            return {FAMILY_KEY: cls.family.name}
        return super().__get_pydantic_json_schema__(schema, handler)
