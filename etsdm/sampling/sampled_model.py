"""`SampledModel`: a trained denoiser with everything that identifies its samples.

model = SampledModel.from_checkpoint("runs/digits/e-tsdm")
task = model.with_guidance(2.0).task("ddim", steps=50, seed=1)
generate_folder(task, "samples", n=64)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from etsdm.checkpoints.format import Weights, read_checkpoint
from etsdm.checkpoints.latest import checkpoint_folder
from etsdm.condition_maps import ConditionMap
from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import PartError
from etsdm.registry import condition_maps, format_errors
from etsdm.samplers import DDIM, DDPM, Sampler
from etsdm.sampling.conditions import Conditions
from etsdm.sampling.generate import SamplerLike, resolve_sampler
from etsdm.sampling.job import SamplingTask
from etsdm.storage.faults import storage_errors

__all__ = ["Guidance", "SampledModel"]

PROTOCOL_FORMAT = 3  # raise it when the same protocol gives other images or files


class Guidance(NamedTuple):
    """Classifier-free guidance. Fields: scale, w; interval, the noise levels (low, high] at which it acts, None for all."""

    scale: float
    interval: tuple[float, float] | None = None


class SampledModel(NamedTuple):
    """A trained denoiser, guided or not, with the protocol of its samples and the sampler that they have by default.

    Fields: trained, the denoiser in eval mode; facts, JSON values that identify its weights; guidance, None for none; sampler, the
    default of `task`; data_classes, classes of the training data, None where unknown.
    """

    trained: Denoiser
    facts: Mapping[str, Any]
    guidance: Guidance | None = None
    sampler: Sampler = DDIM()
    data_classes: int | None = None

    @classmethod
    def of(cls, denoiser: Denoiser, *, sampler: Sampler | None = None, data_classes: int | None = None) -> Self:
        """A denoiser in memory, identified by its backbone's weights.

        Args:
            denoiser: in eval mode.
            sampler: the default of `task`.
            data_classes: classes of the training data, where known: one less than the denoiser's if its last label is the null class.
        """
        weights = {name: value.detach().cpu().contiguous() for name, value in denoiser.backbone.state_dict().items()}
        # The digest of the file that a checkpoint of these weights has.
        facts = {"weights": hashlib.sha256(save(weights)).hexdigest(), "recipe": None}
        return cls(denoiser, facts, None, sampler or DDIM(), data_classes)

    @classmethod
    @storage_errors()
    def from_checkpoint(
        cls,
        path: Path | str,
        device: torch.device | str = "cpu",
        *,
        sampler: Sampler | None = None,
        data_classes: int | None = None,
        weights: Weights = "ema",
    ) -> Self:
        """Loads a checkpoint, or the latest of a run's folder; see `of` and `etsdm.load`."""
        denoiser, facts, digest = read_checkpoint(checkpoint_folder(path), device, weights=weights)
        return cls(denoiser, {"weights": digest, "recipe": facts.get("recipe")}, None, sampler or DDIM(), data_classes)

    def with_condition_map(self, condition_map: ConditionMap | str | Mapping[str, Any]) -> Self:
        """The model under another condition map than it was trained with; the protocol names both.

        Raises:
            PartError: the map does not fit the schedule.
        """
        spec, condition_map = self.trained.spec, condition_maps.make(condition_map)
        try:
            changed = spec.model_copy(update={"condition_map": condition_map})
        except ValidationError as error:
            problem = format_errors(error)[0]
            raise PartError(problem.location, problem.message) from None
        facts = {"trained_with_condition_map": spec.condition_map.model_dump(mode="json"), **self.facts}
        return self._replace(trained=Denoiser(changed, self.trained.backbone, self.trained.first_stage).eval(), facts=facts)

    def with_guidance(self, scale: float, interval: tuple[float, float] | None = None) -> Self:
        """The model under classifier-free guidance; arguments as those of `ClassifierFreeGuidance`.

        Raises:
            PartError: there is no null class, the scale is not finite, or the interval is empty.
        """
        if not math.isfinite(scale):
            raise PartError("scale", f"{scale} is no scale; give a number, 1 for no guidance")
        if self.data_classes is not None and self.trained.num_classes == self.data_classes:
            message = f"its {self.data_classes} labels are the classes of its data, without a null class"
            raise PartError("denoiser", f"{message}; train with num_classes {self.data_classes + 1} and a label_dropout")
        ClassifierFreeGuidance(self.trained, scale, interval)
        return self._replace(guidance=Guidance(scale, interval))

    @property
    def denoiser(self) -> Denoiser | ClassifierFreeGuidance:
        """The denoiser that samplers call."""
        return self.trained if self.guidance is None else ClassifierFreeGuidance(self.trained, *self.guidance)

    @property
    def protocol(self) -> dict[str, Any]:
        """JSON values that identify weights, parts and guidance."""
        protocol = {"format": PROTOCOL_FORMAT, **self.facts, "denoiser": self.trained.spec.model_dump(mode="json")}
        if self.guidance is None:
            return protocol
        scale, interval = self.guidance
        return {**protocol, "guidance": {"scale": scale, "interval": None if interval is None else list(interval)}}

    @property
    def labels(self) -> list[int] | None:
        """The classes that samples have in turn by default: those of the data; None for an unconditional denoiser."""
        classes = self.denoiser.num_classes
        if classes is None:
            return None
        return list(range(classes if self.data_classes is None else self.data_classes))

    def task(
        self,
        sampler: SamplerLike | None = None,
        *,
        steps: int | None = None,
        seed: int = 0,
        labels: Sequence[int] | None = None,
        low_res: Tensor | None = None,
        chunk: int | None = None,
    ) -> SamplingTask:
        """A sampling task of this model with its protocol, for `generate_folder`.

        Args:
            sampler: a sampler, its name, or a mapping of its fields with `type`; the model's own by default.
            steps: number of steps, if other than the sampler's own.
            seed: seed of the starting noise and of the steps' noise.
            labels: class labels used in turn; all classes by default.
            low_res: low-resolution images used in turn, (N, C, H / factor, W / factor) in [-1, 1]; see `read_low_res`.
            chunk: images that a first stage decodes at a time; a whole batch by default.

        Raises:
            PartError: something does not fit the denoiser.
            RegistryError: there is no such sampler.
        """
        chosen = resolve_sampler(self.sampler if sampler is None else sampler, steps)
        spec = self.trained.spec
        if isinstance(chosen, DDPM) and chosen.variance == "learned" and not spec.learns_variance:
            raise PartError(("sampler", "variance"), "found 'learned', but this denoiser learns no variance; give beta or posterior")
        if spec.image_shape[0] not in (1, 3):
            raise PartError("denoiser", f"{spec.image_shape[0]} channels make no picture, 1 or 3 do; use etsdm.sample")
        if chunk is not None and self.trained.first_stage is None:
            raise PartError("chunk", "this denoiser has no first stage that decodes; leave it out")
        if low_res is None and spec.super_resolution is not None:
            raise PartError("low_res", "this denoiser does super-resolution; give low-resolution images")
        used = self._checked(labels)
        digest = None if low_res is None else hashlib.sha256(low_res.cpu().contiguous().numpy().tobytes()).hexdigest()
        of_task = {"sampler": chosen.model_dump(mode="json"), "seed": seed, "labels": used, "low_res": digest}
        return SamplingTask(self.denoiser, chosen, seed, Conditions(used, low_res), chunk, protocol={**self.protocol, **of_task})

    def _checked(self, labels: Sequence[int] | None) -> list[int] | None:
        classes = self.denoiser.num_classes
        if labels is None:
            return self.labels
        if classes is None:
            raise PartError("labels", "this denoiser is unconditional; leave them out")
        if not labels:
            raise PartError("labels", f"none are given; give some of 0 to {classes - 1}")
        for label in labels:
            if not 0 <= label < classes:
                raise PartError("labels", f"{label} is no class of this denoiser; give 0 to {classes - 1}")
        return list(labels)
