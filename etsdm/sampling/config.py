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
from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    TypeAdapter,
    model_validator,
)

from etsdm.checkpoints.format import Weights
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import PartError
from etsdm.registry import Frozen, field_error
from etsdm.registry.counts import BatchSize, ImageCount, Label, Seed
from etsdm.samplers import DDIM, Sampler

__all__ = ["DEFAULT_SAMPLING", "Sampling", "Samplings"]

DEFAULT_SAMPLING = "default"  # name of the samples of a recipe with one section

# A name is a folder of the run, also where file systems ignore case.
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


class Sampling(Frozen):
    """One set of samples.

    Attributes:
        sampler: the sampler.
        n: number of images.
        seed: of the starting noise and of the steps' noise, the same in every arm.
        batch_size: images in one pass of the network.
        weights: of the denoiser, `ema` for the moving average or `current` for the weights at the end of training.
        labels: class labels used in turn; all classes of the data by default.
        guidance: scale of classifier-free guidance, 1 or null for none.
        guidance_interval: noise levels sigma/alpha, above the first and up to the second, at which samples are guided; all by default.
    """

    sampler: Sampler = DDIM()
    n: ImageCount = 64
    seed: Seed = 0
    batch_size: BatchSize = 64
    weights: Weights = "ema"
    labels: tuple[Label, ...] | None = Field(None, min_length=1, max_length=1_000_000)
    guidance: float | None = None
    guidance_interval: tuple[NonNegativeFloat, NonNegativeFloat] | None = None

    @model_validator(mode="after")
    def _interval_holds_noise_levels(self) -> Self:
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            if self.guidance is None:
                raise field_error("Sampling", ("guidance_interval",), "there is no guidance; give guidance, its scale, or leave it out")
            if low >= high:
                message = f"no noise level lies above {low:g} and up to {high:g}; give the lower one first"
                raise field_error("Sampling", ("guidance_interval",), message)
        return self

    def check_classes(self, classes: int | None, data_classes: int) -> None:
        """Checks that labels and guidance fit.

        Args:
            classes: labels of the model, None for an unconditional one.
            data_classes: classes of the training data.

        Raises:
            PartError: they do not.
        """
        if self.labels is not None:
            if classes is None:
                raise PartError("labels", "the model is unconditional; leave them out, or give model.backbone.num_classes")
            if max(self.labels) >= classes:
                raise PartError("labels", f"{max(self.labels)} is no class of the model; give 0 to {classes - 1}")
        if self.guidance is not None and classes != data_classes + 1:
            found = "is unconditional" if classes is None else f"has {classes} labels, the classes of its data, and no null class"
            mend = f"give model.backbone.num_classes {data_classes + 1} and a training.label_dropout, or leave guidance out"
            raise PartError("guidance", f"the model {found}; {mend}")

    def guided(self, denoiser: DenoiserLike) -> DenoiserLike:
        """The denoiser that the sampler calls: under classifier-free guidance where there is any."""
        return denoiser if self.guidance is None else ClassifierFreeGuidance(denoiser, self.guidance, self.guidance_interval)


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
