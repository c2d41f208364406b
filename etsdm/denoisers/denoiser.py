"""The denoiser: a schedule, a target, a condition map, a time input and a backbone.

    x, t  ->  F = backbone(c_in x, time_input(f(t)))  ->  x0 = c_skip x + c_out F,  eps = e_skip x + e_out F

The condition map f is applied here and nowhere else, so training, sampling and measuring cannot disagree about it; the
coefficients use the true t (paper Eq. 9, 10).

With a first stage x are its latents. A backbone with twice the output channels gives F in the first half and the variance of sampling
steps in the second (Nichol and Dhariwal 2021). For super-resolution the enlarged low-resolution image follows c_in x as more input
channels.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from etsdm.backbones import Backbone
from etsdm.backbones.external import External
from etsdm.backbones.first_stages import FirstStage, FirstStageNetwork
from etsdm.backbones.size import check_fits_memory, check_weights
from etsdm.condition_maps import ConditionMap, Identity
from etsdm.condition_maps.time_inputs import Auto, TimeInput
from etsdm.denoisers.config import condition_at
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.super_resolution import SuperResolution
from etsdm.denoisers.time_point import TimeBatch, TimePoint, check_call, time_of
from etsdm.errors import PartError
from etsdm.randomness import seeded_global_rng
from etsdm.registry import Frozen, field_error
from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target

__all__ = ["Denoiser", "DenoiserSpec"]


class DenoiserSpec(Frozen):
    """The parts of a denoiser; the `model` section of a recipe.

    Attributes:
        schedule, target, condition_map, backbone: see the module.
        time_input: see the module; `auto` is replaced by the one that suits schedule and condition map.
        first_stage: the autoencoder whose latents are denoised; None for images themselves.
        super_resolution: for a denoiser that is conditioned on a low-resolution image; None for others.
    """

    schedule: Schedule
    target: Target = Eps()
    condition_map: ConditionMap = Identity()
    time_input: TimeInput = Auto()
    backbone: Backbone
    first_stage: FirstStage | None = None
    super_resolution: SuperResolution | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what is denoised: an image, or a latent of the first stage."""
        channels, height, width = self.backbone.shape
        return channels // (1 if self.super_resolution is None else 2), height, width

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.shape if self.first_stage is None else self.first_stage.image_shape

    @property
    def learns_variance(self) -> bool:
        """Whether the backbone's output has a second half, for the variance of sampling steps."""
        return self.backbone.out_channels == 2 * self.shape[0]

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1], as images do and latents do not."""
        return self.first_stage is None and (not isinstance(self.backbone, External) or self.backbone.bounded)

    @field_validator("time_input")
    @classmethod
    def _resolve_auto(cls, time_input: TimeInput, info: ValidationInfo) -> TimeInput:
        schedule, condition_map = (info.data.get(name) for name in ("schedule", "condition_map"))
        return time_input if schedule is None or condition_map is None else time_input.resolved(condition_map, schedule)

    @model_validator(mode="after")
    def _map_and_time_input_fit_schedule(self) -> Self:
        for problem in self.condition_map.check(self.schedule):
            raise field_error("DenoiserSpec", ("condition_map", *problem.location), problem.message)
        for problem in self.time_input.check(self.condition_map, self.schedule):
            raise field_error("DenoiserSpec", ("time_input", *problem.location), problem.message)
        return self

    @model_validator(mode="after")
    def _target_is_defined_at_the_ends(self) -> Self:
        last = self.schedule.domain[1]
        try:
            self.schedule.refuse_lost_signal()
            alpha, sigma = self.schedule.alpha_sigma(last)
            self.target.coefficients(alpha if self.schedule.has_signal(last) else torch.zeros_like(alpha), sigma)
        except PartError as error:
            where = f"the last time of schedule {self.schedule.type_name!r}"
            if error.path == ("schedule",):
                raise field_error("DenoiserSpec", error.path, error.message) from None
            raise field_error("DenoiserSpec", error.path, f"{error.message} ({where})") from None
        return self

    @model_validator(mode="after")
    def _channels_fit(self) -> Self:
        backbone, channels = self.backbone, self.shape[0]
        if self.super_resolution is not None:
            if backbone.in_channels % 2:
                message = f"{backbone.in_channels} is odd; give twice an image's channels, for the noisy and the enlarged image"
                raise field_error("DenoiserSpec", ("backbone", "in_channels"), message)
            if self.first_stage is not None:
                message = "found beside a first stage; leave one of the two out"
                raise field_error("DenoiserSpec", ("super_resolution",), message)
            if backbone.image_size % self.super_resolution.factor:
                message = f"{self.super_resolution.factor} does not divide the {backbone.image_size} pixels of an image; give a divisor"
                raise field_error("DenoiserSpec", ("super_resolution", "factor"), message)
        if backbone.out_channels not in (channels, 2 * channels):
            message = f"{backbone.out_channels} channels, but {channels} are denoised"
            mend = f"give {channels}, or {2 * channels} to learn the variance of sampling steps"
            raise field_error("DenoiserSpec", ("backbone", "out_channels"), f"{message}; {mend}")
        if self.first_stage is not None and self.first_stage.latent_shape != self.shape:
            latent = self.first_stage.latent_shape
            message = f"its latents are {_sizes(latent)}, but the backbone takes {_sizes(self.shape)}; change one of the two"
            raise field_error("DenoiserSpec", ("first_stage",), message)
        return self

    def check_weights(self) -> None:
        """Raises PartError if the weights are too large for any machine; nothing is allocated."""
        for field, part in self._networks():
            check_weights(part, field)

    def check_memory(self) -> None:
        """Raises PartError if the weights do not fit into this machine's memory; nothing is allocated."""
        for field, part in self._networks():
            check_fits_memory(part, field)

    def _networks(self) -> list[tuple[str, Backbone | FirstStage]]:
        parts: list[tuple[str, Backbone | FirstStage | None]] = [("backbone", self.backbone), ("first_stage", self.first_stage)]
        # An external network exists already.
        return [(field, part) for field, part in parts if part is not None and not isinstance(part, External)]

    def build(self, seed: int = 0, device: torch.device | str = "cpu", *, first_stage_device: torch.device | str | None = None) -> Denoiser:
        """Makes the denoiser, its weights drawn from the streams "model/weights" and "model/first-stage" of a seed.

        Args:
            seed: of the weights.
            device: of the denoiser.
            first_stage_device: another one for the first stage; "meta" for one without weights, where latents are trained on.

        Raises:
            PartError: the weights do not fit into this machine's memory.
        """
        self.check_memory()
        with seeded_global_rng(seed, "model/weights"):
            network = self.backbone.build()
        if self.first_stage is None:
            return Denoiser(self, network).to(device)
        with seeded_global_rng(seed, "model/first-stage"), torch.device(first_stage_device or "cpu"):
            first_stage = self.first_stage.build()
        denoiser = Denoiser(self, network.to(device), first_stage)
        return denoiser if first_stage_device else denoiser.to(device)


class Denoiser(nn.Module):
    """A network with its schedule, target and condition map.

    All weights that training changes are the backbone's, so whatever wraps a network (compilation, data parallelism) wraps
    `backbone`. A first stage stays as it is and in eval mode.

    Args:
        spec: the parts.
        backbone: the network, as `spec.backbone.build()` makes it.
        first_stage: likewise, as `spec.first_stage.build()` makes it; None without one.

    Attributes:
        first_stage_file: safetensors file with the weights of a first stage on the device "meta", which has none; else None.
    """

    first_stage_file: Path | None = None

    def __init__(self, spec: DenoiserSpec, backbone: nn.Module, first_stage: FirstStageNetwork | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.first_stage = None if first_stage is None else first_stage.requires_grad_(False).eval()
        self.schedule = spec.schedule
        self.target = spec.target
        self.condition_map = spec.condition_map
        self.time_input = spec.time_input
        self._shape = spec.shape
        self._learns_variance = spec.learns_variance
        # A network alone needs no coefficient of a target that takes x as it is; a target may refuse times without signal.
        loses_signal = not spec.schedule.alpha(spec.schedule.domain[1]).item() > 0
        self._needs_coefficients = spec.target.scales_input or (spec.target.needs_signal and loses_signal)

    def extra_repr(self) -> str:
        """The parts that are not modules, for `repr`."""
        parts = {"schedule": self.schedule, "target": self.target, "condition_map": self.condition_map}
        return ", ".join([*(f"{name}={part!r}" for name, part in parts.items()), f"shape={self.shape}"])

    def train(self, mode: bool = True) -> Self:
        """Training or eval mode of the backbone."""
        super().train(mode)
        if self.first_stage is not None:
            self.first_stage.eval()
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what is denoised: an image, or a latent of the first stage."""
        return self._shape

    @property
    def bounded(self) -> bool:
        """Whether clean x lie in [-1, 1]; see `DenoiserSpec.bounded`."""
        return self.spec.bounded

    @property
    def learns_variance(self) -> bool:
        """Whether predictions carry a variance for sampling steps; see `DenoiserSpec.learns_variance`."""
        return self._learns_variance

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, None for an unconditional denoiser."""
        return self.spec.backbone.num_classes

    @property
    def has_weightless_first_stage(self) -> bool:
        """Whether the first stage is on the device "meta", as in a training on latents, which does without it."""
        return self.first_stage is not None and any(weight.is_meta for weight in self.first_stage.parameters())

    @property
    def device(self) -> torch.device:
        """The device of the weights, or of the buffers of a network without weights."""
        return next(chain(self.parameters(), self.buffers())).device

    def prepare_batch(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Encodes a batch and collects its conditioning inputs, for training and for measuring.

        Args:
            images: (B, C, H, W) in [-1, 1], of the shape `spec.image_shape`.
            labels: (B,), int64.
            generator: draws the latents, where the first stage gives a distribution; without it they are its means.

        Returns:
            The clean x, (B, *shape), and the keyword arguments of `output`: labels `y` where there are classes, `low_res` for
            super-resolution. All on the denoiser's device.
        """
        images = images.to(self.device)
        cond = {} if self.num_classes is None else {"y": labels.to(self.device)}
        if self.spec.super_resolution is not None:
            cond["low_res"] = self.spec.super_resolution.reduce(images)
        return self.encode(images, generator), cond

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of the first stage, or without one the images themselves.

        Args:
            images: (B, C, H, W) in [-1, 1]; or what the first stage's `moments` made of them, (B, *moments_shape).
            generator: draws the latents, where the first stage gives a distribution.
        """
        if self.first_stage is None:
            return images
        stage = self.first_stage.spec
        with torch.no_grad():
            if images.shape[1:] == stage.moments_shape and stage.moments_shape != stage.image_shape:
                return stage.latents(images, generator)
            return self.first_stage.encode(images.to(_weight_dtype(self.first_stage, images)), generator=generator).to(images.dtype)

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """Images from x, the inverse of `encode`, clipped to [-1, 1]; latents as they are, where there is no first stage for them.

        Args:
            x: (B, *shape).
            chunk: images that a first stage decodes at a time.
        """
        if self.first_stage is None:
            return x.clamp(-1, 1) if self.bounded else x
        with torch.no_grad():
            return self.first_stage.decode(x.to(_weight_dtype(self.first_stage, x)), chunk=chunk).to(x.dtype).clamp(-1, 1)

    def condition(self, t: Tensor) -> Tensor:
        """The value that the network receives as time, time_input(f(t)).

        Args:
            t: times in the schedule's unit, any shape.

        Returns:
            Same shape.
        """
        return condition_at(self, t)

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape; see `ConditionMap.noising_time`."""
        return self.condition_map.noising_time(t, self.schedule)

    def forward(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """`predict`, so that a denoiser is called as any module is."""
        return self.predict(x, t, **cond)

    def output(self, x: Tensor, t: Tensor | float, *, condition_t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """The network's output F.

        Args:
            x: noisy images, (B, C, H, W).
            t: true times in the schedule's unit, (B,) or (), or a number, such as a `TimePoint`.
            condition_t: times whose condition the network receives in place of that of t, same shape; c_in stays that of t. For
                measuring the effect of the condition alone (paper Eq. 8).
            **cond: further inputs of the backbone, for example labels `y` of shape (B,); for super-resolution the low-resolution
                images `low_res`, (B, C, H / factor, W / factor) in [-1, 1].

        Returns:
            F in the target's space, (B, C, H, W).

        Raises:
            ValueError: a shape does not fit, or an input that the network needs is missing.
        """
        if isinstance(t, Tensor) and not self._needs_coefficients:
            check_call(x, t)
            self.schedule.check_times(t)
            network = self._network(x, 1.0, self._time(x, t, None, condition_t), cond)
        else:
            at = time_of(self, x, t)
            network = self._network(x, at.c_in, self._time(x, t, at, condition_t), cond)
        return network[:, : self._shape[0]] if self._learns_variance else network

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t), and the variance logit where it is learned; arguments as in `output`."""
        at = time_of(self, x, t)
        network = self._network(x, at.c_in, self._time(x, t, at), cond)
        if not self._learns_variance:
            return Prediction(x, network, at)
        output, variance_logit = network.chunk(2, dim=1)
        return Prediction(x, output, at, variance_logit)

    def _time(self, x: Tensor, t: Tensor | float, at: TimePoint | TimeBatch | None, condition_t: Tensor | None = None) -> Tensor:
        """The network's time argument, float32, (B,)."""
        times = t if condition_t is None else condition_t
        if isinstance(times, Tensor):
            time = condition_at(self, times)
            if time.dtype != torch.float32 or time.device != x.device:
                time = time.to(x.device, torch.float32)
            if time.shape == x.shape[:1]:
                return time
            if condition_t is not None and (time.ndim > 1 or time.numel() != 1):
                message = f"has shape {tuple(condition_t.shape)} for {x.shape[0]} images"
                raise PartError("condition_t", f"{message}; give a time for each, or one")
            return time.expand(x.shape[0])
        assert isinstance(at, TimePoint)
        return torch.full((len(x),), at.condition, dtype=torch.float32, device=x.device)

    def _network(self, x: Tensor, c_in: Tensor | float, time: Tensor, cond: dict[str, Any]) -> Tensor:
        given = c_in.to(x.dtype) * x if isinstance(c_in, Tensor) else x if c_in == 1 else c_in * x
        if self.spec.super_resolution is not None:
            if "low_res" not in cond:
                raise PartError("low_res", "super-resolution needs the low-resolution images; give them")
            cond = dict(cond)
            given = torch.cat([given, self.spec.super_resolution.enlarge(cond.pop("low_res"), x)], dim=1)
        dtype = _weight_dtype(self.backbone, x)
        network: Tensor = self.backbone(given if given.dtype == dtype else given.to(dtype), time, **cond)
        return network if network.dtype == x.dtype else network.to(x.dtype)


def _weight_dtype(network: nn.Module, x: Tensor) -> torch.dtype:
    """The dtype in which a network computes, that of its first weight; of x where it has none."""
    return _first_dtype(network) or x.dtype


def _first_dtype(network: nn.Module) -> torch.dtype | None:
    # In the order of `parameters()`, which takes as long as all else that a call does beside the network.
    for weight in network._parameters.values():
        if weight is not None and weight.is_floating_point():
            return weight.dtype
    for child in network._modules.values():
        if child is not None and (found := _first_dtype(child)) is not None:
            return found
    return None


def _sizes(shape: tuple[int, int, int]) -> str:
    return "x".join(str(length) for length in shape)
