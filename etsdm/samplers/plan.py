"""Plans: every call of the network that a sampler makes, as a table.

A plan is recorded from the sampler itself, on data of one element, with a denoiser that costs nothing and notes its calls: it is
right for any solver, intermediate times included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.zero_denoiser import ZeroDenoiser
from etsdm.samplers.step import NoiseSource, Step

__all__ = ["Call", "Plan", "plan_of"]


class Call(NamedTuple):
    """One call of the network.

    Fields: number, from 1; step that makes it, from 1; t, the time; f, the condition map's value there; alpha and sigma at t; log_snr,
    -inf without signal; order, of accuracy, of the step's update.
    """

    number: int
    step: int
    t: float
    f: float
    alpha: float
    sigma: float
    log_snr: float
    order: int


class Plan(NamedTuple):
    """All network calls of a sampler.

    Fields: calls, in order; steps, how many; end, the time at which it ends, None for the clean image; noise_left, the standard deviation
    of the noise in the images there.
    """

    calls: tuple[Call, ...]
    steps: int
    end: float | None
    noise_left: float

    @property
    def nfe(self) -> int:
        """Number of function evaluations: network calls for a batch."""
        return len(self.calls)

    def record(self) -> dict[str, Any]:
        """As JSON values; a log-SNR without signal, which is -inf, is None."""
        calls = [{**call._asdict(), "log_snr": call.log_snr if math.isfinite(call.log_snr) else None} for call in self.calls]
        return {"nfe": self.nfe, "steps": self.steps, "end": self.end, "noise_left": self.noise_left, "calls": calls}


class _Zeros:
    def draw(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(1, *shape)


Trajectory = Callable[[DenoiserLike, Tensor, NoiseSource], Iterator[Step]]


def plan_of(config: DenoiserConfig, trajectory: Trajectory, end: float | None, noise_left: float) -> Plan:
    """Runs a trajectory on one element and records its calls.

    Args:
        config: a denoiser, or its spec.
        trajectory: gives the steps for a denoiser, a start and noise.
        end: the time at which it ends, None for the clean image.
        noise_left: as of `Plan`.
    """
    denoiser, calls, steps = ZeroDenoiser(config), list[Call](), 0
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for step in trajectory(denoiser, start, _Zeros()):
        steps = step.n
        for t in denoiser.times[len(calls) :]:
            calls.append(_call(config, len(calls) + 1, t, step))
    return Plan(tuple(calls), steps, end, noise_left)


def _call(config: DenoiserConfig, number: int, t: float, step: Step) -> Call:
    schedule = config.schedule
    condition = config.condition_map(torch.tensor(t, dtype=torch.float64), schedule)
    alpha, sigma = schedule.alpha_sigma(t)
    return Call(number, step.i, t, condition.item(), alpha.item(), sigma.item(), schedule.log_snr(t).item(), step.order)
