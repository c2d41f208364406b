"""What the samplers of Karras et al. (2022) and of k-diffusion have in common: they see images divided by alpha.

    y = x / alpha = x0 + k eps,   k = sigma / alpha = exp(-lambda), the noise level,   dy/dk = eps     (probability-flow ODE)

A step goes from level k_t to a lower level `down`, and noise takes it up to k_s. From x0 and eps at t the first-order step is

    y_s = x0 + down eps + up z,   down^2 + up^2 = k_s^2,   z ~ N(0, I),

and a solver is what it adds to that, differences of what it was told elsewhere from what it is told at t,

    sum_j w_j (m_j - m),   m = eps or x0.

So every step is finite: where alpha_t = 0, and with it k_t = inf, nothing is added, and where k_s = 0 the step gives x0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

from pydantic import Field, PositiveInt
from torch import Tensor

from etsdm.grids import Grid, Karras
from etsdm.samplers.base import NoiseSource, Predicted, Sampler, StepResult
from etsdm.samplers.model import Answer, CountedModel, Point
from etsdm.schedules import Schedule

__all__ = ["Added", "AncestralSampler", "Leg", "NoiseLevelSampler", "ancestral_split", "at_level", "level", "midway"]


def level(point: Point) -> float:
    """k = sigma / alpha; inf where there is no signal."""
    return math.exp(-point.lam)


def at_level(schedule: Schedule, k: float) -> Point:
    """The point with a noise level above 0, or the schedule's end where its levels do not reach so far."""
    return Point.at(schedule, schedule.t_of_log_snr(-2 * math.log(k)).item())


def midway(schedule: Schedule, k: float, other: float) -> Point:
    """The point half-way between two noise levels in their logarithm."""
    return at_level(schedule, math.sqrt(k) * math.sqrt(other))


def ancestral_split(k: float, k_s: float, eta: float) -> tuple[float, float]:
    """(down, up) from level k to k_s: at eta = 1 up is the spread of q(x_s | x_t, x0) over alpha_s (k-diffusion)."""
    up = min(k_s, eta * k_s * math.sqrt(max(1 - (k_s / k) ** 2, 0.0)))
    return math.sqrt(max(k_s**2 - up**2, 0.0)), up


class Leg(NamedTuple):
    """One step. Fields: t and s, its ends; down, the level that it goes down to; said, the answer at t; past, earlier ones, last first."""

    t: Point
    s: Point
    down: float
    said: Answer
    past: Sequence[tuple[Point, Answer]]


class Added(NamedTuple):
    """What a solver adds to the first-order step: sum_j w_j (m_j - m).

    Fields: predicts, whether m is eps or x0; terms, pairs of w_j and m_j, (B, C, H, W); order of the step with it.
    """

    predicts: Predicted
    terms: Sequence[tuple[float, Tensor]]
    order: int


class NoiseLevelSampler(Sampler):
    """Steps in y = x / alpha and k = sigma / alpha; subclasses say how far down, and what is added.

    Attributes:
        steps: how many; a subclass says what each costs.
        corrects_to_clean: whether something is added in the step to the clean image too, which is x0 otherwise.
    """

    corrects_to_clean: ClassVar[bool] = False

    steps: PositiveInt = 50
    grid: Grid = Karras()

    @property
    def _memory(self) -> int:
        """How many earlier answers a step looks at."""
        return 0

    def _start(self, network: CountedModel, t: Point, x: Tensor, noise: NoiseSource, n: int) -> tuple[Point, Tensor]:
        """Where one of n steps really starts."""
        return t, x

    def _split(self, t: Point, s: Point) -> tuple[float, float]:
        """(down, up) of the step from t to s, which is not clean."""
        return level(s), 0.0

    @abstractmethod
    def _added(self, leg: Leg, network: CountedModel, noise: NoiseSource) -> Added | None:
        """What a step adds to the first-order one; None for nothing. alpha_t > 0, and down > 0 unless `corrects_to_clean`."""

    def _steps(self, network: CountedModel, path: Sequence[Point], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        past: deque[tuple[Point, Answer]] = deque(maxlen=self._memory)
        for given, s in pairwise(path):
            t, x = self._start(network, given, x, noise, len(path) - 1)
            said = network(x, t)
            down, up = self._split(t, s) if s.sigma > 0 else (0.0, 0.0)
            corrects = t.alpha > 0 and (down > 0 or self.corrects_to_clean)
            added = self._added(Leg(t, s, down, said, past), network, noise) if corrects else None
            x = _landed(said, s.alpha, down, added)
            if up > 0:
                x.add_(noise.draw(x.shape[1:]).to(x), alpha=s.alpha * up)
            if t.alpha > 0:
                past.appendleft((t, said))
            yield StepResult(x, said, 1 if added is None else added.order)


def _landed(said: Answer, alpha: float, down: float, added: Added | None) -> Tensor:
    """alpha y at level `down`."""
    own: dict[Predicted, float] = {"x0": 1.0, "eps": down}
    if added is None:
        return said.mixed(alpha, alpha * down)
    own[added.predicts] -= sum(w for w, _ in added.terms)
    x = said.mixed(alpha * own["x0"], alpha * own["eps"])
    for w, m in added.terms:
        x.add_(m, alpha=alpha * w)
    return x


class AncestralSampler(NoiseLevelSampler):
    """Goes down further than the next level, and up to it by noise.

    Attributes:
        eta: 0 for no noise, 1 for that of q(x_s | x_t, x0).
    """

    eta: float = Field(1.0, ge=0)

    def _split(self, t: Point, s: Point) -> tuple[float, float]:
        return ancestral_split(level(t), level(s), self.eta)
