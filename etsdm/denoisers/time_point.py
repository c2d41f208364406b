"""Times with their coefficients: a number that knows alpha, sigma and the target's coefficients, and the same of a batch of times.

    x_t = alpha x0 + sigma eps,   lambda = log(alpha / sigma), half of log-SNR
    x0 = c_skip x + c_out F,   eps = e_skip x + e_out F,   F = network(c_in x, condition)

A sampler makes the points of a whole trajectory in one vectorised call, and hands them to the denoiser as times; what a call of the
network then costs beside the network are sums with these numbers.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple, Self

import torch
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig, condition_at
from etsdm.errors import PartError
from etsdm.registry import quoted
from etsdm.schedules import Schedule
from etsdm.schedules.base import NO_SIGNAL
from etsdm.targets import Coefficients

__all__ = ["CLEAN", "TimeBatch", "TimePoint", "alpha_sigma_like", "check_call", "time_of"]


class TimePoint(float):
    """A time, as a float, with everything that a denoiser and a solver need there, as float64 numbers.

    Attributes:
        alpha, sigma: signal coefficient and noise standard deviation.
        lam: log(alpha / sigma); -inf without signal and inf without noise.
        condition: the value that the network receives as time.
        c_in, c_skip, c_out, e_skip, e_out: the target's coefficients.
    """

    __slots__ = ("_parts", "alpha", "c_in", "c_out", "c_skip", "condition", "e_out", "e_skip", "lam", "sigma")

    alpha: float
    sigma: float
    lam: float
    condition: float
    c_in: float
    c_skip: float
    c_out: float
    e_skip: float
    e_out: float
    _parts: tuple[object, ...]

    @classmethod
    def _of(cls, parts: tuple[object, ...], t: float, *numbers: float) -> Self:
        point = cls(t)
        point._parts = parts
        point.alpha, point.sigma, point.lam, point.condition = numbers[:4]
        point.c_in, point.c_skip, point.c_out, point.e_skip, point.e_out = numbers[4:]
        return point

    @classmethod
    def at(cls, config: DenoiserConfig, t: float) -> Self:
        """The point at a time of a denoiser's schedule."""
        alpha, sigma, lam = _levels(config.schedule, float(t))
        condition = condition_at(config, torch.tensor(t, dtype=torch.float64)).item()
        coefficients = (value.item() for value in config.target.coefficients(alpha, sigma))
        return cls._of(_parts(config), t, alpha.item(), sigma.item(), lam.item(), condition, *coefficients)

    @classmethod
    def path(cls, config: DenoiserConfig, times: Tensor) -> list[Self]:
        """The points at several times. Args: times: float64, (N,)."""
        alpha, sigma, lam = _levels(config.schedule, times)
        coefficients = config.target.coefficients(alpha, sigma)
        columns = (times, alpha, sigma, lam, condition_at(config, times), *coefficients)
        return [cls._of(_parts(config), *numbers) for numbers in zip(*(column.tolist() for column in columns), strict=True)]

    def belongs_to(self, config: DenoiserConfig) -> bool:
        """Whether the numbers are those of this configuration; a wrapper may have another target than the denoiser inside."""
        schedule, target, condition_map, time_input = self._parts
        return (
            schedule is config.schedule
            and target is config.target
            and condition_map is config.condition_map
            and time_input is config.time_input
        )

    def __repr__(self) -> str:
        return f"TimePoint({float(self):g}, alpha={self.alpha:.4g}, sigma={self.sigma:.4g})"


def _levels(schedule: Schedule, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, sigma and lambda at times, alpha = 0 where single precision has no signal (`Schedule.has_signal`)."""
    alpha, sigma = schedule.alpha_sigma(t)
    lost = alpha <= NO_SIGNAL * sigma
    return alpha.masked_fill(lost, 0.0), sigma, (schedule.log_snr(t) / 2).masked_fill(lost, -math.inf)


def _parts(config: DenoiserConfig) -> tuple[object, ...]:
    return config.schedule, config.target, config.condition_map, config.time_input


# The clean image, no time of a schedule: on timesteps it is before the first.
CLEAN = TimePoint._of((None,) * 4, math.nan, 1.0, 0.0, math.inf, *[math.nan] * 6)


class TimeBatch(NamedTuple):
    """Coefficients at a batch of times, float64 tensors that broadcast with x: () or (B, 1, ...). Fields as of `TimePoint`."""

    alpha: Tensor
    sigma: Tensor
    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    e_skip: Tensor
    e_out: Tensor

    @classmethod
    def of(cls, config: DenoiserConfig, x: Tensor, t: Tensor) -> Self:
        """The coefficients of a batch x, (B, ...), at times t, (B,) or ()."""
        alpha, sigma = alpha_sigma_like(x, config, t)
        coefficients: Coefficients = config.target.coefficients(alpha, sigma)
        return cls(alpha, sigma, *coefficients)


def alpha_sigma_like(x: Tensor, config: DenoiserConfig, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """alpha and sigma at times t, (B,) or (), float64, in a shape that broadcasts with x: () or (B, 1, ...)."""
    alpha, sigma = config.schedule.alpha_sigma(t.to(x.device) if isinstance(t, Tensor) else float(t))
    shape = (-1, *[1] * (x.ndim - 1)) if alpha.ndim else ()
    return alpha.reshape(shape), sigma.reshape(shape)


def time_of(config: DenoiserConfig, x: Tensor, t: Tensor | float) -> TimePoint | TimeBatch:
    """The coefficients of a configuration at t: those that a `TimePoint` of it brings along, or else new ones; errors of `check_call`."""
    if isinstance(t, TimePoint) and t.belongs_to(config):
        return t
    check_call(x, t)
    return TimeBatch.of(config, x, t) if isinstance(t, Tensor) else TimePoint.at(config, float(t))


def check_call(x: Tensor, t: Tensor | float) -> None:
    """Checks the arguments of a denoiser's call.

    Raises:
        PartError: x is no tensor, or t neither a number nor a tensor with a time for each image.
    """
    if not isinstance(x, Tensor):
        raise PartError("x", f"found a {type(x).__name__}; give a tensor of noisy images, (batch, ...)")
    if isinstance(t, Tensor):
        # Sizes, not `len`, which is a constant to torch.export.
        if t.ndim > 1 or (t.ndim and t.shape[0] != 1 and t.shape[0] != x.shape[0]):
            raise PartError("t", f"has shape {tuple(t.shape)} for {x.shape[0]} images; give a time for each, or one number")
    elif not isinstance(t, Real) or isinstance(t, bool):
        raise PartError("t", f"found {quoted(t)}; give a number, or a tensor with a time for each image")
