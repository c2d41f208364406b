"""The denoiser: a schedule, a target, a condition map, a time input and a backbone.

    x, t  ->  F = backbone(c_in x, time_input(f(t)))  ->  x0 = c_skip x + c_out F,  eps = e_skip x + e_out F

The condition map f is applied here and nowhere else, so training, sampling and measuring cannot disagree about it; the
coefficients use the true t (paper Eq. 9, 10).

With a first stage x are its latents. A backbone with twice the output channels gives F in the first half, and in the second what a
sampler makes the variance of its steps of (Nichol and Dhariwal 2021). For super-resolution the enlarged small image follows c_in x
as more input channels.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from etsdm.backbones import Backbone
from etsdm.backbones.first_stages import FirstStage, FirstStageNetwork
from etsdm.condition_maps import ConditionMap, Identity
from etsdm.condition_maps.time_inputs import TimeInput, Timesteps
from etsdm.denoisers.prediction import Moment, Prediction, levels, moment_at
from etsdm.denoisers.super_resolution import SuperResolution
from etsdm.errors import PartError
from etsdm.randomness import seeded_global_rng
from etsdm.registry import Frozen, field_error
from etsdm.schedules import Schedule
from etsdm.targets import Coefficients, Eps, Target

__all__ = ["Denoiser", "DenoiserSpec"]


MOST_KNOWN = 4096  # times of which a denoiser remembers what it has to know


class DenoiserSpec(Frozen):
    """The parts of a denoiser; the `model` section of a recipe.

    Attributes:
        schedule, target, condition_map, time_input, backbone: see the module.
        first_stage: the autoencoder whose latents are denoised; None for images themselves.
        super_resolution: what is made larger, where the denoiser is told a small image; None where it is not.
    """

    schedule: Schedule
    target: Target = Eps()
    condition_map: ConditionMap = Identity()
    time_input: TimeInput = Timesteps()
    backbone: Backbone
    first_stage: FirstStage | None = None
    super_resolution: SuperResolution | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what is denoised: an image, or a latent of the first stage."""
        parts = 1 if self.super_resolution is None else 2
        return self.backbone.in_channels // parts, self.backbone.image_size, self.backbone.image_size

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
        """Whether what is denoised lies in [-1, 1], as images do and latents do not."""
        return self.first_stage is None

    @model_validator(mode="after")
    def _map_fits_schedule(self) -> Self:
        for problem in self.condition_map.check(self.schedule):
            raise field_error("DenoiserSpec", ("condition_map", *problem.location), problem.message)
        return self

    @model_validator(mode="after")
    def _target_is_defined_at_the_ends(self) -> Self:
        try:
            self.target.coefficients(*self.schedule.alpha_sigma(self.schedule.domain[1]))
        except PartError as error:
            where = f"the last time of schedule {self.schedule.type_name!r}"
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

    def build(self, seed: int = 0, device: torch.device | str = "cpu") -> Denoiser:
        """Makes the denoiser, its weights drawn from the streams "model/weights" and "model/first-stage" of a seed."""
        with seeded_global_rng(seed, "model/weights"):
            network = self.backbone.build()
        if self.first_stage is None:
            return Denoiser(self, network).to(device)
        with seeded_global_rng(seed, "model/first-stage"):
            first_stage = self.first_stage.build()
        return Denoiser(self, network, first_stage).to(device)


class Denoiser(nn.Module):
    """A network that knows its schedule, target and condition map.

    All weights that training changes are the backbone's, so whatever wraps a network (compilation, data parallelism) wraps
    `backbone`. A first stage stays as it is and in eval mode.

    Args:
        spec: the parts.
        backbone: the network that `spec.backbone.build()` makes.
        first_stage: the one that `spec.first_stage.build()` makes, if there is one.
    """

    def __init__(self, spec: DenoiserSpec, backbone: nn.Module, first_stage: FirstStageNetwork | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.first_stage = None if first_stage is None else first_stage.requires_grad_(False).eval()
        self.schedule = spec.schedule
        self.target = spec.target
        self.condition_map = spec.condition_map
        self._shape = spec.shape
        self._learns_variance = spec.learns_variance
        self._known: dict[float, tuple[Moment, float]] = {}

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
        """Whether what is denoised lies in [-1, 1]; see `DenoiserSpec.bounded`."""
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
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def prepare_batch(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """What a denoiser is shown of images with labels, in training and in measuring.

        Args:
            images: (B, C, H, W) in [-1, 1], of the shape `spec.image_shape`.
            labels: (B,), int64.
            generator: draws the latents, where the first stage gives a distribution; without it they are its means.

        Returns:
            What is denoised, (B, *shape), and the keyword arguments of `output`: labels where there are classes, small images for
            super-resolution. All on the denoiser's device.
        """
        images = images.to(self.device)
        cond = {} if self.num_classes is None else {"y": labels.to(self.device)}
        if self.spec.super_resolution is not None:
            cond["low_res"] = self.spec.super_resolution.reduce(images)
        return self.encode(images, generator), cond

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What is denoised of images: the latents of the first stage, or without one the images themselves.

        Args:
            images: (B, C, H, W) in [-1, 1].
            generator: draws the latents, where the first stage gives a distribution.
        """
        if self.first_stage is None:
            return images
        with torch.no_grad():
            return self.first_stage.encode(images, generator=generator)

    def decode(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """The images of what was denoised, the inverse of `encode`, cut to [-1, 1], beyond which no picture goes.

        Args:
            x: (B, *shape).
            chunk: images that a first stage decodes at a time.
        """
        if self.first_stage is None:
            return x.clamp(-1, 1)
        with torch.no_grad():
            return self.first_stage.decode(x, chunk=chunk).clamp(-1, 1)

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told at time t.

        Args:
            t: times in the schedule's unit, any shape.

        Returns:
            The time input of f(t), same shape.
        """
        return self.spec.time_input(self.spec.condition_map(t, self.schedule))

    def noising_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape; see `ConditionMap.noising_time`."""
        return self.spec.condition_map.noising_time(t, self.schedule)

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """The network's output F.

        Args:
            x: noisy images, (B, C, H, W).
            t: true times in the schedule's unit, (B,) or ().
            told: times whose condition the network gets in place of that of t, same shape; its input stays that of t. For
                measuring what the condition alone does (paper Eq. 8).
            **cond: what else the backbone takes, for example labels `y` of shape (B,); for super-resolution the small images
                `low_res`, (B, C, H / factor, W / factor) in [-1, 1].

        Returns:
            F in the target's space, (B, C, H, W).

        Raises:
            ValueError: a shape does not fit, or what the network needs is missing.
        """
        coefficients, _, _, time = self._asked(x, t)
        if told is not None:
            time = self._time(x, told)
        return self._network(x, time, coefficients.c_in, cond)[:, : self._shape[0]]

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t), and the raw variance where it is learned; arguments as in `output`."""
        coefficients, alpha, sigma, time = self._asked(x, t)
        network = self._network(x, time, coefficients.c_in, cond)
        if not self._learns_variance:
            return Prediction(x, network, coefficients, alpha, sigma)
        output, variance_logit = network.chunk(2, dim=1)
        return Prediction(x, output, coefficients, alpha, sigma, variance_logit)

    def _at(self, t: float) -> tuple[Moment, float]:
        """A time that is a number, and what the network is told of it; looked up from the second call on, as samplers make them."""
        known = self._known.get(t)
        if known is None:
            known = moment_at(self, t), self.condition(torch.tensor(t, dtype=torch.float64)).item()
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[t] = known
        return known

    def _asked(self, x: Tensor, t: Tensor | float) -> tuple[Coefficients | Moment, Tensor | float, Tensor | float, Tensor]:
        """The target's coefficients, alpha and sigma at times t, and what the network is told, (B,)."""
        if isinstance(t, Tensor):
            alpha, sigma = levels(self, x, t)
            return self.target.coefficients(alpha, sigma), alpha, sigma, self._time(x, t)
        moment, told = self._at(t)
        return moment, moment.alpha, moment.sigma, torch.full((len(x),), told, dtype=torch.float32, device=x.device)

    def _time(self, x: Tensor, t: Tensor) -> Tensor:
        return self.condition(t).to(x.device, torch.float32).expand(len(x))

    def _network(self, x: Tensor, time: Tensor, c_in: Tensor | float, cond: dict[str, Any]) -> Tensor:
        given = c_in.to(x.dtype) * x if isinstance(c_in, Tensor) else x if c_in == 1 else c_in * x
        if self.spec.super_resolution is not None:
            if "low_res" not in cond:
                raise ValueError("low_res: the small images are missing, which super-resolution is told; give them")
            cond = dict(cond)
            given = torch.cat([given, self.spec.super_resolution.enlarge(cond.pop("low_res"), x)], dim=1)
        network: Tensor = self.backbone(given, time, **cond)
        return network


def _sizes(shape: tuple[int, int, int]) -> str:
    return "x".join(str(length) for length in shape)
