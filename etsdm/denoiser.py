"""The denoiser: a schedule, a target, a condition map, a time input and a backbone.

    x, t  ->  F = backbone(c_in x, time_input(f(t)))  ->  x0 = c_skip x + c_out F,  eps = e_skip x + e_out F

The condition map f is applied here and nowhere else, so training, sampling and measuring cannot disagree about it; the
coefficients use the true t (paper Eq. 9, 10).
"""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

import torch
from pydantic import model_validator
from torch import Tensor, nn

from etsdm.backbones import Backbone
from etsdm.condition_maps import ConditionMap, Identity
from etsdm.randomness import ambient
from etsdm.registry import Frozen, field_error
from etsdm.schedules import Schedule
from etsdm.targets import Coefficients, Eps, Target
from etsdm.time_inputs import TimeInput, Timesteps

__all__ = ["Denoiser", "DenoiserSpec", "Prediction", "Predictor"]


class Prediction:
    """What a denoiser says about x at time t, in every space.

    Args:
        x: noisy images, (B, C, H, W).
        output: the network's output F, same shape.
        coefficients: the target's coefficients at t, each () or (B, 1, 1, 1).
        alpha: signal coefficient at t, same shape as the coefficients.
        sigma: noise standard deviation at t, likewise.
    """

    def __init__(self, x: Tensor, output: Tensor, coefficients: Coefficients, alpha: Tensor, sigma: Tensor) -> None:
        self.x = x
        self.output = output
        self._coefficients = coefficients
        self._alpha = alpha
        self._sigma = sigma

    @property
    def x0(self) -> Tensor:
        """The clean images, E[x0 | x]."""
        c = self._coefficients
        return c.c_skip.to(self.x.dtype) * self.x + c.c_out.to(self.x.dtype) * self.output

    @property
    def eps(self) -> Tensor:
        """The noise, E[eps | x]."""
        c = self._coefficients
        return c.e_skip.to(self.x.dtype) * self.x + c.e_out.to(self.x.dtype) * self.output

    @property
    def v(self) -> Tensor:
        """The velocity, alpha eps - sigma x0."""
        # Put together in float64, so that v of a v-network is F itself.
        c, alpha, sigma = self._coefficients, self._alpha, self._sigma
        skip, out = alpha * c.e_skip - sigma * c.c_skip, alpha * c.e_out - sigma * c.c_out
        return skip.to(self.x.dtype) * self.x + out.to(self.x.dtype) * self.output

    @property
    def score(self) -> Tensor:
        """The score of the noisy density, -eps / sigma; not a number at sigma = 0."""
        return -self.eps / self._sigma.to(self.x.dtype)


@runtime_checkable
class Predictor(Protocol):
    """What samplers, losses and estimators ask for; trained and exact denoisers have it."""

    schedule: Schedule
    target: Target

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told at time t; equal values mean equal outputs at the same x."""

    def level_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t: t itself, unless the condition map shares levels too."""

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """F at (x, t), in the target's space; with `told`, under that time's condition."""

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t)."""


class DenoiserSpec(Frozen):
    """The parts of a denoiser; the `model` section of a recipe."""

    schedule: Schedule
    target: Target = Eps()
    condition_map: ConditionMap = Identity()
    time_input: TimeInput = Timesteps()
    backbone: Backbone

    @model_validator(mode="after")
    def _map_fits_schedule(self) -> Self:
        for problem in self.condition_map.problems(self.schedule):
            raise field_error("DenoiserSpec", ("condition_map", *problem.location), problem.message)
        return self

    @model_validator(mode="after")
    def _target_is_defined_at_the_ends(self) -> Self:
        try:
            self.target.coefficients(*self.schedule.alpha_sigma(self.schedule.domain[1]))
        except ValueError as error:
            reason = str(error).removeprefix(f"target {self.target.type_name}: ")
            where = f"the last time of schedule {self.schedule.type_name!r}"
            raise field_error("DenoiserSpec", ("target",), f"found {self.target.type_name!r}; {reason} ({where})") from None
        return self

    def build(self, seed: int = 0, device: torch.device | str = "cpu") -> Denoiser:
        """Makes the denoiser, its weights drawn from the stream "model/weights" of a seed."""
        with ambient(seed, "model/weights"):
            network = self.backbone.build()
        return Denoiser(self, network).to(device)


class Denoiser(nn.Module):
    """A network that knows its schedule, target and condition map.

    All weights are the backbone's, so whatever wraps a network (compilation, data parallelism) wraps `backbone`.

    Args:
        spec: the parts.
        backbone: the network that `spec.backbone.build()` makes.
    """

    def __init__(self, spec: DenoiserSpec, backbone: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.schedule = spec.schedule
        self.target = spec.target

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        size = self.spec.backbone.image_size
        return self.spec.backbone.in_channels, size, size

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, None for an unconditional denoiser."""
        return self.spec.backbone.num_classes

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told at time t.

        Args:
            t: times in the schedule's unit, any shape.

        Returns:
            The time input of f(t), same shape.
        """
        return self.spec.time_input(self.spec.condition_map(t, self.schedule))

    def level_time(self, t: Tensor) -> Tensor:
        """The time at which training noises an image that drew t, same shape; see `ConditionMap.level_time`."""
        return self.spec.condition_map.level_time(t, self.schedule)

    def output(self, x: Tensor, t: Tensor | float, *, told: Tensor | None = None, **cond: Tensor) -> Tensor:
        """The network's output F.

        Args:
            x: noisy images, (B, C, H, W).
            t: true times in the schedule's unit, (B,) or ().
            told: times whose condition the network gets in place of that of t, same shape; its input stays that of t. For
                measuring what the condition alone does (paper Eq. 8).
            **cond: what else the backbone takes, for example labels `y` of shape (B,).

        Returns:
            F in the target's space, (B, C, H, W).
        """
        return self._network(x, t if told is None else told, self._coefficients(x, t)[0], cond)

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """x0, eps, v and score at (x, t), arguments as in `output`."""
        coefficients, alpha, sigma = self._coefficients(x, t)
        return Prediction(x, self._network(x, t, coefficients, cond), coefficients, alpha, sigma)

    def _coefficients(self, x: Tensor, t: Tensor | float) -> tuple[Coefficients, Tensor, Tensor]:
        # Of one number they stay on the CPU: scalars there meet images anywhere, without waiting for the device.
        alpha, sigma = self.schedule.alpha_sigma(t.to(x.device) if isinstance(t, Tensor) else t)
        if alpha.ndim:
            alpha, sigma = (value.reshape(-1, *[1] * (x.ndim - 1)) for value in (alpha, sigma))
        return self.target.coefficients(alpha, sigma), alpha, sigma

    def _network(self, x: Tensor, t: Tensor | float, coefficients: Coefficients, cond: dict[str, Any]) -> Tensor:
        # A Python number would become float32, in which 0.02 is not 0.02.
        times = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
        time = self.condition(times).to(x.device, torch.float32).expand(len(x))
        c_in = coefficients.c_in.to(x.dtype)
        network: Tensor = self.backbone(c_in * x, time, **cond)
        return network
