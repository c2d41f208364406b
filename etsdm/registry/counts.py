"""Types of number fields: counts with an upper bound that says why, seeds, ratios and noise levels.

A number above the bound cannot be meant: it is a slip of the keyboard, or meant to fill the memory. The bounds leave room for ten times
what has been published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = [
    "AtMost",
    "BatchSize",
    "Channels",
    "Classes",
    "Depth",
    "ExtraChannels",
    "ImageCount",
    "ImageSize",
    "ImagesSeen",
    "Index",
    "IntervalCount",
    "Label",
    "Multiplier",
    "NoiseLevel",
    "NumClasses",
    "Order",
    "Processes",
    "Ratio",
    "RunSeed",
    "Seed",
    "Steps",
    "Timesteps",
    "TrainingImages",
    "Workers",
]


@dataclass(frozen=True)
class AtMost:
    """Upper bound of an integer field.

    Attributes:
        most: largest valid value.
        why: the reason of the bound, a clause for the end of the message.
    """

    most: int
    why: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "maximum": self.most}

    def _check(self, value: int) -> int:
        if value > self.most:
            found = f"{value:,}" if value.bit_length() <= 64 else f"an integer of {value.bit_length():,} bits"
            message = f"found {found}; give {self.most:,} or less: {self.why}"
            raise PydanticCustomError("etsdm", "{message}", {"message": message})
        return value


class OrAuto:
    """A field that a recipe may give as `auto`; the recipe puts the value in its place before the field is read."""

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        return {**found, "anyOf": [*found.get("anyOf", []), {"const": "auto", "type": "string"}]}


Timesteps = Annotated[PositiveInt, AtMost(100_000, "a schedule keeps a table of all timesteps")]
Index = Annotated[NonNegativeInt, AtMost(100_000, "no schedule has more timesteps")]
Steps = Annotated[PositiveInt, AtMost(100_000, "a step calls the network once or more")]
Order = Annotated[PositiveInt, AtMost(10, "higher orders are unstable")]
TrainingImages = Annotated[PositiveInt, AtMost(10**12, "no training ends that sees more images")]
ImagesSeen = Annotated[NonNegativeInt, AtMost(10**12, "no training ends that sees more images")]
ImageCount = Annotated[PositiveInt, AtMost(10**9, "no set of images has more")]
BatchSize = Annotated[PositiveInt, AtMost(2**20, "a batch is in memory as a whole")]
ImageSize = Annotated[PositiveInt, AtMost(2**14, "an image is in memory as a whole")]
Channels = Annotated[PositiveInt, AtMost(2**16, "weights grow with the square of the width")]
ExtraChannels = Annotated[NonNegativeInt, AtMost(2**16, "weights grow with the square of the width")]
Multiplier = Annotated[PositiveInt, AtMost(1024, "widths are counted in thousands")]
Ratio = Annotated[PositiveFloat, Field(le=1024)]
NoiseLevel = Annotated[PositiveFloat, Field(ge=1e-9, le=1e9)]  # its square and inverse are float32, too
Depth = Annotated[PositiveInt, AtMost(300, "ten times the deepest published network")]
Label = Annotated[NonNegativeInt, AtMost(10**6, "no model has more classes")]
Classes = Annotated[PositiveInt, AtMost(10**6, "each class has an embedding")]
NumClasses = Annotated[Classes | None, OrAuto()]
IntervalCount = Annotated[PositiveInt, AtMost(100_000, "no schedule has more timesteps")]
Processes = Annotated[PositiveInt, AtMost(4096, "no machine has more cores")]
Workers = Annotated[NonNegativeInt, AtMost(4096, "no machine has more cores")]
RunSeed = Annotated[NonNegativeInt, AtMost(2**63 - 1, "seeds have 64 bits")]
Seed = Annotated[int, Field(ge=-(2**63)), AtMost(2**63 - 1, "seeds have 64 bits")]
