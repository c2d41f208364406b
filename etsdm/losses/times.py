"""Time samplers: which t a training image gets.

uniform           t ~ U over the schedule's times
uniform-in-f      u ~ U(f_min, f_max), t = f^-1(u), f a condition map
soft-truncation   tau with density proportional to tau^-k on [t_min, T], then t ~ U[tau, T]
log-normal        log(sigma/alpha) ~ N(p_mean, p_std^2)
"""

from __future__ import annotations

from abc import abstractmethod
from math import ceil, expm1, log
from typing import Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from etsdm.condition_maps import ConditionMap
from etsdm.registry import Part, field_error, time_samplers
from etsdm.schedules import Schedule

__all__ = ["LogNormal", "SoftTruncation", "TimeSampler", "Uniform", "UniformIn"]


class TimeSampler(Part, family=time_samplers):
    """A distribution of training times."""

    @abstractmethod
    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Args: schedule: whose times; n: how many; stream: generator. Returns: float64 on the stream's device, (n,)."""


@time_samplers.register("uniform")
class Uniform(TimeSampler):
    """Every timestep of a discrete schedule, or every time of a continuous one, equally often (paper Eq. 4)."""

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Integers 0..T-1, or reals between the ends of the domain."""
        device = stream.device
        if schedule.is_discrete:
            return torch.randint(int(schedule.horizon), (n,), generator=stream, device=device).to(torch.float64)
        low, high = schedule.domain
        return low + (high - low) * torch.rand(n, generator=stream, device=device, dtype=torch.float64)


@time_samplers.register("uniform-in-f")
class UniformIn(TimeSampler):
    """Every condition of a map equally often, in place of every time (paper, appendix D.3.3).

    `map` is a remap, such as `inverse` or `log-snr`; times are real also on a discrete schedule. The denoiser's own condition
    map does not enter: with the same one there, training is uniform in what the network is told.
    """

    map: ConditionMap

    @model_validator(mode="after")
    def _map_has_an_inverse(self) -> Self:
        if not self.map.is_invertible:
            message = f"{self.map.type_name!r} gives several times one condition, so that no time follows from it; give a remap"
            raise field_error("UniformIn", ("map",), message)
        return self

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Reals between the ends of the domain."""
        first, last = self.map.ends(schedule)
        u = torch.rand(n, generator=stream, device=stream.device, dtype=torch.float64)
        return self.map.inverse(first + (last - first) * u, schedule).clamp(*schedule.domain)


@time_samplers.register("soft-truncation")
class SoftTruncation(TimeSampler):
    """A lower end of time drawn for each batch, and times uniform above it (Kim et al. 2022).

    One draw is one mini-batch. Its lower end tau has a density proportional to tau^-k on [t_min T, T]; on a discrete schedule
    tau and t are whole and count from 1, so the timestep t - 1 is drawn. `t_min` is a share of the horizon T. With k = 0 tau is
    uniform, with k = 1 log-uniform; a large k leaves tau at its least value, which is the uniform sampler.
    """

    k: NonNegativeFloat = 1.0
    t_min: float = Field(1e-5, gt=0, lt=1)

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Integers tau-1..T-1, or reals from tau to the end of the domain."""
        device = stream.device
        u = torch.rand(n + 1, generator=stream, device=device, dtype=torch.float64)
        if schedule.is_discrete:
            last = int(schedule.horizon)
            least = max(ceil(self.t_min * last), 1)
            ends = torch.arange(least, last + 1, device=device, dtype=torch.float64)
            share = ((least / ends) ** self.k).cumsum(0)
            tau = ends[torch.searchsorted(share, u[:1] * share[-1], right=True).clamp(max=len(ends) - 1)]
            return tau - 1 + (u[1:] * (last + 1 - tau)).floor()
        low, high = schedule.domain
        tau = self._lower_end(u[:1], max(low, self.t_min * schedule.horizon), high)
        return (tau + (high - tau) * u[1:]).clamp(max=high)

    def _lower_end(self, u: Tensor, least: float, greatest: float) -> Tensor:
        # log(tau / least) at the quantile u; by expm1 and log1p so that k close to 1 tends to the log-uniform k = 1.
        power, width = 1 - self.k, log(greatest / least)
        exponent = torch.log1p(u * expm1(power * width)) / power if power else width * u
        return least * exponent.clamp(max=width).exp()


@time_samplers.register("log-normal")
class LogNormal(TimeSampler):
    """The noise level sigma/alpha log-normal (Karras et al. 2022, with their mean and deviation).

    Levels beyond the ends of the schedule count as the ends; times are real also on a discrete schedule.
    """

    p_mean: float = -1.2
    p_std: PositiveFloat = 1.2

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Reals between the ends of the domain."""
        normal = torch.randn(n, generator=stream, device=stream.device, dtype=torch.float64)
        return schedule.t_of_log_snr(-2 * (self.p_mean + self.p_std * normal))
