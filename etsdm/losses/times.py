"""Time samplers: which t a training image gets."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from etsdm.registry import Part, time_samplers
from etsdm.schedules import Schedule

__all__ = ["TimeSampler", "Uniform"]


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
