"""`Part`: a piece of a diffusion model that is its own configuration.

A part is a frozen pydantic model with methods. The root of a family (`Schedule`, `ConditionMap`, ...) names its registry:

    class Schedule(Part, family=schedules): ...

From then on `Schedule` is an open tagged union wherever it is used as the type of a field: the field takes an instance, a
mapping `{type: linear, timesteps: 1000}`, or the bare name `linear`, and gives back the registered class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError, core_schema

from etsdm.errors import RegistryError
from etsdm.registry.frozen import Frozen, field_error

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

    from etsdm.registry.registry import Registry

__all__ = ["FAMILY_KEY", "Part"]

# Stands in a JSON schema where a registry's union belongs, until `json_schema` puts the union there.
FAMILY_KEY = "x-etsdm-registry"


class Part(Frozen):
    """Base of everything that a registry holds.

    Attributes:
        family: the registry of this kind of part.
        type_name: the name under which the class was registered; it is the `type` of its dump.
    """

    family: ClassVar[Registry[Any]]
    type_name: ClassVar[str] = ""
    _is_root: ClassVar[bool] = False

    def __init_subclass__(cls, family: Registry[Any] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_root = family is not None
        cls.type_name = ""
        if family is not None:
            cls.family = family

    @model_validator(mode="before")
    @classmethod
    def _take_off_type(cls, value: Any) -> Any:
        # Runs before `_refuse_unknown_fields`: pydantic calls before-validators of a subclass first.
        if isinstance(value, Mapping) and "type" in value:
            if value["type"] != cls.type_name:
                raise field_error(cls.__name__, ("type",), f"found {value['type']!r}; only {cls.type_name!r} fits here", value["type"])
            return {key: field for key, field in value.items() if key != "type"}
        return value

    @model_serializer(mode="wrap")
    def _put_on_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type_name, **handler(self)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if not cls._is_root:
            return handler(source)

        def parse(value: Any) -> Any:
            try:
                return cls.family.parse(value)
            except RegistryError as error:
                raise PydanticCustomError("etsdm", "{message}", {"message": str(error)}) from None

        def dump(value: Any, info: core_schema.SerializationInfo) -> Any:
            return value.model_dump(mode=info.mode)

        dumped = core_schema.plain_serializer_function_ser_schema(dump, info_arg=True)
        return core_schema.no_info_plain_validator_function(parse, serialization=dumped)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if cls._is_root:
            return {FAMILY_KEY: cls.family.name}
        return handler(schema)
