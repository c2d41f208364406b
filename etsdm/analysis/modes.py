"""Modes of the Lipschitz estimator: the readings of paper Eq. 8, image by image.

    shared-x     (a)   || F(x_t, t) - F(x_t, t') || / dt        conditions of t and t' at the same x_t; the mean over images
    coupled      (b)   || F(x_t, t) - F(x_t', t') || / dt       x_t and x_t' of the same image and noise
    norm         (c)   | E||F(x_t, t)|| - E||F(x_t', t')|| | / dt
    max          (d)   as (a), the maximum over images instead of the mean
    derivative   (e)   || d F(x_t, s) / ds ||  at s = t, x_t fixed: the limit of (a) for dt -> 0

In (a), (d) and (e) only the condition changes, so where t and t' have the same condition the value is exactly 0, without a forward
pass. (b) and (c) include the change of x_t itself, and are not 0 where a condition is shared. Differences are divided by the true
distance in time for every condition map. The norm is over all elements of an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from etsdm.analysis.running_moments import Moments
from etsdm.analysis.time_pairs import TimePairs
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.protocol import DenoiserLike

__all__ = ["MODES", "Estimator", "Mode"]


class Estimator(ABC):
    """Estimator of the change of F in time, at pairs of times.

    Args:
        denoiser: in eval mode.
        pairs: the times t and t'.
    """

    is_finite_difference: ClassVar[bool] = True  # whether it compares t with a neighbour

    def __init__(self, denoiser: DenoiserLike, pairs: TimePairs) -> None:
        self.denoiser = denoiser
        self.pairs = pairs
        self.times = pairs.t.tolist()
        self.dt = pairs.dt.tolist()
        self.levels = self._levels(pairs.t)

    @abstractmethod
    def values(self, batch: NoisyBatch) -> Tensor:
        """The change of every image at every pair, float64 on the images' device, (M, B)."""

    def _levels(self, times: Tensor) -> list[tuple[float, float]]:
        """alpha and sigma at each time."""
        alpha, sigma = self.denoiser.schedule.alpha_sigma(times)
        return list(zip(alpha.tolist(), sigma.tolist(), strict=True))

    def _zeros(self, batch: NoisyBatch) -> Tensor:
        return torch.zeros(len(self.times), len(batch.x0), dtype=torch.float64, device=batch.x0.device)


class SharedX(Estimator):
    """Conditions of t and t' at the same x_t; both in one forward pass."""

    def __init__(self, denoiser: DenoiserLike, pairs: TimePairs) -> None:
        super().__init__(denoiser, pairs)
        differs = denoiser.condition(pairs.t) != denoiser.condition(pairs.neighbour)
        self.needed = torch.nonzero(differs).flatten().tolist()

    def values(self, batch: NoisyBatch) -> Tensor:
        values, n = self._zeros(batch), len(batch.x0)
        cond = {key: torch.cat([value, value]) for key, value in batch.cond.items()}
        here, neighbour = self.pairs.t.to(values.device), self.pairs.neighbour.to(values.device)
        for k in self.needed:
            x = batch.at(*self.levels[k])
            times = torch.stack([here[k], neighbour[k]]).repeat_interleave(n)
            first, second = self.denoiser.output(torch.cat([x, x]), here[k].repeat(2 * n), condition_t=times, **cond).double().chunk(2)
            values[k] = _norm(first - second) / self.dt[k]
        return values


class Coupled(Estimator):
    """Outputs at t and at t', each for its own noisy image; one forward pass serves two neighbouring pairs."""

    def __init__(self, denoiser: DenoiserLike, pairs: TimePairs) -> None:
        super().__init__(denoiser, pairs)
        self.neighbour_levels = self._levels(pairs.neighbour)

    def values(self, batch: NoisyBatch) -> Tensor:
        values, n = self._zeros(batch), len(batch.x0)
        here, neighbour = self.pairs.t.to(values.device), self.pairs.neighbour.to(values.device)
        last_time, later = None, values
        for k, (time, next_time) in enumerate(zip(self.times, self.pairs.neighbour.tolist(), strict=True)):
            first = later if last_time == time else self._output(batch, self.levels[k], here[k].repeat(n))
            last_time, later = next_time, self._output(batch, self.neighbour_levels[k], neighbour[k].repeat(n))
            values[k] = self._distance(first, later) / self.dt[k]
        return values

    def _output(self, batch: NoisyBatch, level: tuple[float, float], t: Tensor) -> Tensor:
        return self.denoiser.output(batch.at(*level), t, **batch.cond).double()

    def _distance(self, first: Tensor, later: Tensor) -> Tensor:
        return _norm(first - later)


class Norms(Coupled):
    """Norm of the output at t' minus that at t, signed: only its mean over images is a reading of paper Eq. 8."""

    def _distance(self, first: Tensor, later: Tensor) -> Tensor:
        return _norm(later) - _norm(first)


class Derivative(Estimator):
    """Derivative with respect to the condition's time by forward-mode differentiation; one pass where it is not 0."""

    is_finite_difference = False

    def __init__(self, denoiser: DenoiserLike, pairs: TimePairs) -> None:
        super().__init__(denoiser, pairs)
        slope: Tensor = torch.func.jvp(denoiser.condition, (pairs.t,), (torch.ones_like(pairs.t),))[1]
        self.needed = torch.nonzero(slope).flatten().tolist()

    def values(self, batch: NoisyBatch) -> Tensor:
        values, n = self._zeros(batch), len(batch.x0)
        here = self.pairs.t.to(values.device)
        # The fused attention kernels have no forward-mode derivative.
        with sdpa_kernel(SDPBackend.MATH):
            for k in self.needed:
                x, t = batch.at(*self.levels[k]), here[k].repeat(n)

                def output_at(time: Tensor, x: Tensor = x, t: Tensor = t) -> Tensor:
                    return self.denoiser.output(x, t, condition_t=time, **batch.cond)

                values[k] = _norm(torch.func.jvp(output_at, (t,), (torch.ones_like(t),))[1].double())
        return values


def _norm(difference: Tensor) -> Tensor:
    norm: Tensor = difference.flatten(1).norm(dim=1)
    return norm


def _mean(moments: Moments) -> tuple[Tensor, Tensor]:
    return moments.mean, moments.se


def _abs_mean(moments: Moments) -> tuple[Tensor, Tensor]:
    # E||F_t|| - E||F_t'|| is the mean of paired differences, whose standard error is far below that of either mean.
    return moments.mean.abs(), moments.se


def _maximum(moments: Moments) -> tuple[Tensor, Tensor]:
    return moments.largest, torch.full_like(moments.largest, torch.nan)


class Mode(NamedTuple):
    """A mode. Fields: estimator, per image; reduce, from moments over images to value and standard error, NaN if undefined."""

    estimator: type[Estimator]
    reduce: Callable[[Moments], tuple[Tensor, Tensor]]


MODES = {
    "shared-x": Mode(SharedX, _mean),
    "coupled": Mode(Coupled, _mean),
    "norm": Mode(Norms, _abs_mean),
    "max": Mode(SharedX, _maximum),
    "derivative": Mode(Derivative, _mean),
}
