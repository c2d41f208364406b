"""Plans: every call of the network that a sampler makes, as a table.

A plan is what the sampler itself did on data of one element, with a denoiser in place of the network that notes its calls: it is
right for any solver, intermediate times included. That denoiser answers as the exact one of data that are 0 everywhere does,
x0 = 0 and eps = x / sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from etsdm.condition_maps import ConditionMap, Identity
from etsdm.denoisers.config import Asked
from etsdm.denoisers.protocol import Predictor
from etsdm.samplers.model import Stated
from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target

if TYPE_CHECKING:
    from etsdm.samplers.base import NoiseSource, Step

__all__ = ["Call", "Parts", "Plan", "plan_of"]


class Parts(NamedTuple):
    """What a plan depends on of a denoiser; see `etsdm.denoisers.config.Asked`."""

    schedule: Schedule
    target: Target = Eps()
    condition_map: ConditionMap = Identity()
    bounded: bool = True
    learns_variance: bool = True  # a plan holds for any network, so it suits `ddpm` with a learned variance too


class Call(NamedTuple):
    """One call of the network.

    Fields: number, from 1; step that asks, from 1; t, the time; f, the condition map's value there; alpha and sigma at t; log_snr,
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
    """All that a sampler asks of a network.

    Fields: calls, in order; steps, how many; end, the time at which it ends, None for the clean image.
    """

    calls: tuple[Call, ...]
    steps: int
    end: float | None

    @property
    def nfe(self) -> int:
        """Network calls for a batch."""
        return len(self.calls)

    def record(self) -> dict[str, Any]:
        """As JSON values; a log-SNR without signal, which is -inf, is None."""
        calls = [{**call._asdict(), "log_snr": call.log_snr if math.isfinite(call.log_snr) else None} for call in self.calls]
        return {"nfe": self.nfe, "steps": self.steps, "end": self.end, "calls": calls}


class _Probe:
    """The exact denoiser of zeros, which notes when it is asked."""

    def __init__(self, asked: Asked) -> None:
        self.schedule, self.target = asked.schedule, asked.target
        self.condition_map, self.bounded = asked.condition_map, asked.bounded
        self.times: list[float] = []

    def predict(self, x: Tensor, t: Tensor | float, **cond: Tensor) -> Stated:
        self.times.append(float(t))
        zero = torch.zeros_like(x)
        return Stated(zero, x / self.schedule.sigma(float(t)), zero)


class _Zeros:
    def draw(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(1, *shape)


Trajectory = Callable[[Predictor, Tensor, "NoiseSource"], Iterator["Step"]]


def plan_of(asked: Asked, trajectory: Trajectory, end: float | None) -> Plan:
    """Runs a trajectory on one element and notes its calls.

    Args:
        asked: a denoiser, or its spec.
        trajectory: gives the steps for a denoiser, a start and noise.
        end: the time at which it ends, None for the clean image.
    """
    probe, calls, steps = _Probe(asked), list[Call](), 0
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for step in trajectory(cast(Predictor, probe), start, _Zeros()):
        steps = step.n
        for t in probe.times[len(calls) :]:
            calls.append(_call(asked, len(calls) + 1, t, step))
    return Plan(tuple(calls), steps, end)


def _call(asked: Asked, number: int, t: float, step: Step) -> Call:
    schedule = asked.schedule
    told = asked.condition_map(torch.tensor(t, dtype=torch.float64), schedule)
    alpha, sigma = schedule.alpha_sigma(t)
    return Call(number, step.i, t, told.item(), alpha.item(), sigma.item(), schedule.log_snr(t).item(), step.order)
