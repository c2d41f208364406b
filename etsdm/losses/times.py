"""Time samplers: distributions of the training time.

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
from etsdm.errors import PartError
from etsdm.registry import Part, field_error, time_samplers
from etsdm.schedules import Schedule

__all__ = ["LogNormal", "SoftTruncation", "TimeSampler", "Uniform", "UniformIn"]


class TimeSampler(Part, family=time_samplers):
    """A distribution of training times."""

    def check(self, schedule: Schedule) -> None:
        """Raises PartError, on a field, if the distribution is undefined on a schedule."""

    @abstractmethod
    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Draws training times.

        Args:
            schedule: the schedule of the times.
            n: number of times.
            stream: random generator.

        Returns:
            Times in the schedule's unit, float64 on the stream's device, (n,).
        """


@time_samplers.register("uniform")
class Uniform(TimeSampler):
    """Uniform over the timesteps of a discrete schedule, or over the times of a continuous one (paper Eq. 4)."""

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Integers 0..T-1, or reals between the ends of the domain."""
        device = stream.device
        if schedule.is_discrete:
            return torch.randint(int(schedule.horizon), (n,), generator=stream, device=device).to(torch.float64)
        low, high = schedule.domain
        return low + (high - low) * torch.rand(n, generator=stream, device=device, dtype=torch.float64)


@time_samplers.register("uniform-in-f")
class UniformIn(TimeSampler):
    """Uniform in the condition f(t) of a map, in place of t (paper, appendix D.3.3).

    Times are real also on a discrete schedule. The denoiser's own condition map plays no part here; if it is the same map, training
    is uniform in the network's condition.

    Attributes:
        map: the map f, a remap such as `inverse` or `log-snr`.
    """

    map: ConditionMap

    @model_validator(mode="after")
    def _map_has_an_inverse(self) -> Self:
        if not self.map.is_invertible:
            message = f"{self.map.type_name!r} shares conditions between times and has no inverse; give a remap"
            raise field_error("UniformIn", ("map",), message)
        return self

    def check(self, schedule: Schedule) -> None:
        """Raises PartError if the map does not suit the schedule."""
        for problem in self.map.check(schedule):
            raise PartError(("map", *problem.location), problem.message)

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Reals between the ends of the domain."""
        first, last = self.map.ends(schedule)
        u = torch.rand(n, generator=stream, device=stream.device, dtype=torch.float64)
        return self.map.inverse(first + (last - first) * u, schedule).clamp(*schedule.domain)


@time_samplers.register("soft-truncation")
class SoftTruncation(TimeSampler):
    """Soft truncation: a random smallest time for each batch, and times uniform above it (Kim et al. 2022).

    Each call of `draw` is one mini-batch, whose smallest time tau has a density proportional to tau^-k on [t_min T, T], T the
    horizon. On a discrete schedule tau and t are integers that count from 1, so the timestep t - 1 is drawn.

    Attributes:
        k: exponent; tau is uniform for 0, log-uniform for 1, and tends to its lower bound, the uniform sampler, as k grows.
        t_min: lower bound of tau as a fraction of the horizon.
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
    """Log-normal distribution of the noise level sigma/alpha (Karras et al. 2022).

    Noise levels are clamped to those of the schedule; times are real also on a discrete schedule.

    Attributes:
        p_mean: mean of ln(sigma/alpha).
        p_std: standard deviation of ln(sigma/alpha).
    """

    p_mean: float = -1.2
    p_std: PositiveFloat = 1.2

    def draw(self, schedule: Schedule, n: int, stream: torch.Generator) -> Tensor:
        """Reals between the ends of the domain."""
        normal = torch.randn(n, generator=stream, device=stream.device, dtype=torch.float64)
        return schedule.t_of_log_snr(-2 * (self.p_mean + self.p_std * normal))
