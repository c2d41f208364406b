"""The base of k-diffusion's samplers, which work on images divided by alpha (Karras et al. 2022).

    y = x / alpha = denoised + s eps,   s = sigma / alpha = exp(-lambda),   dy/ds = eps     (probability-flow ODE)

Here k-diffusion's `sigma` is s, `denoised` is x0, and `d = (y - denoised) / s` is eps. A step goes from s_t to `sigma_down`, and noise
of standard deviation `sigma_up` takes it to the next level s_s, sigma_down^2 + sigma_up^2 = s_s^2. Euler's step is

    y_s = denoised + sigma_down eps + sigma_up z,   z ~ N(0, I),

and a solver of higher order adds a correction to it, a weighted sum of differences between model outputs:

    sum_j w_j (m_j - m),   m = eps or denoised, m_j at an earlier step or at a stage of this one.

In this form every step is finite: where alpha_t = 0, and with it s_t = inf, there is no correction, and where s_s = 0 the step gives x0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import TimePoint
from etsdm.grids import Grid, Karras
from etsdm.registry.counts import Steps
from etsdm.samplers.base import Sampler
from etsdm.samplers.model import CountedModel
from etsdm.samplers.step import NoiseSource, Predicted, StepResult

__all__ = ["AncestralSampler", "Correction", "SigmaSampler", "StepContext", "ancestral_step", "log_midpoint", "mid_sigma", "sigma_of"]


def sigma_of(point: TimePoint) -> float:
    """k-diffusion's sigma, sigma / alpha; inf where there is no signal."""
    return math.exp(-point.lam)


def log_midpoint(sigma: float, other: float) -> float:
    """The level half-way between two in log sigma (k-diffusion: `sigma.log().lerp(other.log(), 0.5).exp()`)."""
    return math.sqrt(sigma) * math.sqrt(other)


def ancestral_step(sigma_from: float, sigma_to: float, eta: float) -> tuple[float, float]:
    """(sigma_down, sigma_up), as k-diffusion's `get_ancestral_step`: at eta = 1 up is the spread of q(x_s | x_t, x0) over alpha_s."""
    sigma_up = min(sigma_to, eta * sigma_to * math.sqrt(max(1 - (sigma_to / sigma_from) ** 2, 0.0)))
    return math.sqrt(max(sigma_to**2 - sigma_up**2, 0.0)), sigma_up


class StepContext(NamedTuple):
    """One step, for a solver's correction.

    Fields: t and s, its ends; sigma, sigma / alpha at t; sigma_down, the level that the deterministic part goes to; stage, the
    intermediate point of `_stage_sigma`; prediction, at t; history, earlier points with their predictions, latest first.
    """

    t: TimePoint
    s: TimePoint
    sigma: float
    sigma_down: float
    stage: TimePoint | None
    prediction: Prediction
    history: Sequence[tuple[TimePoint, Prediction]]


class Correction(NamedTuple):
    """The correction of Euler's step, sum_j w_j (m_j - m).

    Fields: predicts, whether m is eps or x0; terms, pairs of w_j and m_j, (B, C, H, W); order of the step with it.
    """

    predicts: Predicted
    terms: Sequence[tuple[float, Tensor]]
    order: int


class SigmaSampler(Sampler):
    """Steps in y = x / alpha and sigma / alpha; subclasses give sigma_down and the correction.

    Attributes:
        steps: how many; a subclass says what each costs.
        corrects_to_clean: whether the step to the clean image has a correction too; it is x0 otherwise.
    """

    corrects_to_clean: ClassVar[bool] = False

    steps: Steps = 50
    grid: Grid = Karras()

    @property
    def _history_length(self) -> int:
        """Number of earlier predictions that a correction uses."""
        return 0

    def _stage_sigma(self, t: TimePoint, s: TimePoint, n: int) -> float | None:
        """sigma / alpha of an intermediate point in one of n steps, from t to s; None for none."""
        return None

    def _start(self, t: TimePoint, stage: TimePoint | None, x: Tensor, noise: NoiseSource) -> tuple[TimePoint, Tensor]:
        """The point and x that a step starts from, after churn."""
        return t, x

    def _sigmas(self, t: TimePoint, s: TimePoint) -> tuple[float, float]:
        """(sigma_down, sigma_up) of the step from t to s, which is not clean."""
        return sigma_of(s), 0.0

    @abstractmethod
    def _correction(self, step: StepContext, model: CountedModel, noise: NoiseSource) -> Correction | None:
        """The correction of a step; None for none. alpha_t > 0, and sigma_down > 0 unless `corrects_to_clean`."""

    def _steps(self, model: CountedModel, path: Sequence[TimePoint], x: Tensor, noise: NoiseSource) -> Iterator[StepResult]:
        history: deque[tuple[TimePoint, Prediction]] = deque(maxlen=self._history_length)
        for (given, s), stage in zip(pairwise(path), self._stages(model, path), strict=True):
            t, x = self._start(given, stage, x, noise)
            prediction = model(x, t)
            sigma_down, sigma_up = self._sigmas(t, s) if s.sigma > 0 else (0.0, 0.0)
            corrects = t.alpha > 0 and (sigma_down > 0 or self.corrects_to_clean)
            step = StepContext(t, s, sigma_of(t), sigma_down, stage, prediction, history) if corrects else None
            correction = None if step is None else self._correction(step, model, noise)
            x = _step_down(prediction, s.alpha, sigma_down, correction)
            if sigma_up > 0:
                x.add_(noise.draw(x.shape[1:]).to(x), alpha=s.alpha * sigma_up)
            if t.alpha > 0:
                history.appendleft((t, prediction))
            yield StepResult(x, prediction, 1 if correction is None else correction.order)

    def _stages(self, model: CountedModel, path: Sequence[TimePoint]) -> list[TimePoint | None]:
        """The intermediate point of each step, at the schedule's end where its levels do not reach so far."""
        sigmas = [self._stage_sigma(t, s, len(path) - 1) for t, s in pairwise(path)]
        log_snr = torch.tensor([-2 * math.log(sigma) for sigma in sigmas if sigma is not None], dtype=torch.float64)
        points = iter(model.points(model.denoiser.schedule.t_of_log_snr(log_snr)) if len(log_snr) else ())
        return [None if sigma is None else next(points) for sigma in sigmas]


def mid_sigma(sampler: SigmaSampler, t: TimePoint, s: TimePoint) -> float | None:
    """The level half-way to sigma_down in log sigma; None where a step has no correction."""
    sigma_down = sampler._sigmas(t, s)[0] if s.sigma > 0 else 0.0
    return log_midpoint(sigma_of(t), sigma_down) if t.alpha > 0 and sigma_down > 0 else None


def _step_down(prediction: Prediction, alpha: float, sigma_down: float, correction: Correction | None) -> Tensor:
    """alpha y at level sigma_down."""
    if correction is None:
        return prediction.combine(x0=alpha, eps=alpha * sigma_down)
    own: dict[Predicted, float] = {"x0": 1.0, "eps": sigma_down}
    own[correction.predicts] -= sum(w for w, _ in correction.terms)
    x = prediction.combine(x0=alpha * own["x0"], eps=alpha * own["eps"])
    for w, m in correction.terms:
        x.add_(m, alpha=alpha * w)
    return x


class AncestralSampler(SigmaSampler):
    """Steps down further than the next level, and up to it by noise.

    Attributes:
        eta: 0 for no noise, 1 for that of q(x_s | x_t, x0).
    """

    eta: float = Field(1.0, ge=0)

    def _sigmas(self, t: TimePoint, s: TimePoint) -> tuple[float, float]:
        return ancestral_step(sigma_of(t), sigma_of(s), self.eta)
