"""`Sampling`: the samples drawn from a trained denoiser, as one section of a recipe or as several sections by name.

    sampling: {sampler: ddim, n: 718}             one set of samples, named `default`

    sampling:                                     several sets of samples of one training
      n: 718                                      fields common to all
      ddim-50: {sampler: {type: ddim, steps: 50}}
      ddim-200: {sampler: {type: ddim, steps: 200}}

A key is a name where it is no field of `Sampling` and holds a mapping without `type`, that is, neither a value nor a part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, PlainSerializer, PlainValidator, SerializationInfo, TypeAdapter

from etsdm.registry import Frozen, field_error
from etsdm.registry.counts import BatchSize, ImageCount, Seed
from etsdm.samplers import DDIM, Sampler

__all__ = ["DEFAULT_SAMPLING", "Sampling", "Samplings"]

DEFAULT_SAMPLING = "default"  # name of the samples of a recipe with one section

# A name is a folder of the run, also where file systems ignore case.
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


class Sampling(Frozen):
    """One set of samples.

    Fields: sampler; n, number of images; seed of the starting noise and of the steps' noise, the same in every arm; batch_size, images in
    one pass of the network.
    """

    sampler: Sampler = DDIM()
    n: ImageCount = 64
    seed: Seed = 0
    batch_size: BatchSize = 64


def _parse(value: Any) -> Sampling | dict[str, Sampling]:
    """One section, or sections by name with the common fields filled in."""
    if not isinstance(value, Mapping) or not (names := [key for key, entry in value.items() if _is_section(key, entry)]):
        return Sampling.model_validate(value)
    for name in names:
        if not _NAME.fullmatch(name):
            message = "is no name for samples; use lower case letters and digits, joined by single hyphens or underscores"
            raise field_error("Sampling", (name,), f"{name!r} {message}")
    common = {key: entry for key, entry in value.items() if key not in names}
    Sampling.model_validate(common)
    # The adapter puts the name into the path of an error.
    sections = {name: value[name] if isinstance(value[name], Sampling) else _merged(common, value[name]) for name in names}
    return TypeAdapter(dict[str, Sampling]).validate_python(sections)


def _is_section(key: Any, entry: Any) -> bool:
    return key not in Sampling.model_fields and (isinstance(entry, Sampling) or (isinstance(entry, Mapping) and "type" not in entry))


def _merged(below: Any, above: Any) -> Any:
    """A section's fields over the common ones, by the rule of recipes: mappings merge, but a part of another type replaces."""
    if isinstance(below, Sampler):
        below = below.model_dump(mode="json")
    if isinstance(below, str):
        below = {"type": below}
    if not isinstance(above, Mapping) or not isinstance(below, Mapping) or above.get("type", below.get("type")) != below.get("type"):
        return above
    return {**below, **{key: _merged(below[key], entry) if key in below else entry for key, entry in above.items()}}


class _Sections(Sampling):
    """Either form as it is written, for the JSON schema: fields of one section, and sections by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Sampling]


def _dump(value: Sampling | dict[str, Sampling], info: SerializationInfo) -> dict[str, Any]:
    if isinstance(value, Sampling):
        return value.model_dump(mode=info.mode)
    return {name: section.model_dump(mode=info.mode) for name, section in value.items()}


Samplings = Annotated[Sampling | dict[str, Sampling], PlainValidator(_parse, json_schema_input_type=_Sections), PlainSerializer(_dump)]
