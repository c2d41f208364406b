"""The ways to say how much a denoiser's output F changes from t to t' (paper Eq. 8 and its readings), image by image.

    shared-x     (a)   || F(x_t, t) - F(x_t, t') || / dt        the same x_t, told t and told t'; the mean over images
    coupled      (b)   || F(x_t, t) - F(x_t', t') || / dt       x_t and x_t' of the same image and noise
    norm         (c)   | E||F(x_t, t)|| - E||F(x_t', t')|| | / dt
    max          (d)   as (a), the largest image and not the mean
    derivative   (e)   || d F(x_t, s) / ds ||  at s = t, x_t fixed: the limit of (a) for dt -> 0

In (a), (d) and (e) only the condition changes, so a denoiser that is told the same at t and t' gives exactly 0, and no forward
pass is spent there. (b) and (c) also hold what x_t itself does, and are not 0 where a condition is shared. Differences are
divided by the true distance in time, also where a map tells the network another one. The norm is over all elements of an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from etsdm.analysis.running_moments import Moments
from etsdm.analysis.time_pairs import TimePairs
from etsdm.denoisers.protocol import DenoiserLike

__all__ = ["MODES", "Mode", "Noised"]


class Noised(NamedTuple):
    """One batch at any time. Fields: x0, clean images, (B, ...); eps, their noise, same shape; cond, what goes with each image."""

    x0: Tensor
    eps: Tensor
    cond: dict[str, Tensor]

    @classmethod
    def of(cls, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor], device: torch.device) -> Self:
        """A batch on a device, its noise in the images' precision where that is the higher one."""
        wide = torch.promote_types(x0.dtype, eps.dtype)
        return cls(x0.to(device), eps.to(device, wide), {key: value.to(device) for key, value in cond.items()})

    def at(self, alpha: float, sigma: float) -> Tensor:
        """x = alpha x0 + sigma eps."""
        return alpha * self.x0 + sigma * self.eps

    def twice(self) -> dict[str, Tensor]:
        """`cond` for a batch that holds every image twice, the second ones after all the first."""
        return {key: torch.cat([value, value]) for key, value in self.cond.items()}


class Estimator(ABC):
    """One way to measure change, at all points.

    Args:
        denoiser: in eval mode.
        points: where.
    """

    is_finite_difference: ClassVar[bool] = True  # whether it compares t with a neighbour

    def __init__(self, denoiser: DenoiserLike, points: TimePairs) -> None:
        self.denoiser = denoiser
        self.points = points
        self.times = points.t.tolist()
        self.levels = self._levels(points.t)

    @abstractmethod
    def values(self, noised: Noised) -> Tensor:
        """The change of every image at every point, float64 on the images' device, (M, B)."""

    def _levels(self, times: Tensor) -> list[tuple[float, float]]:
        alpha, sigma = self.denoiser.schedule.alpha_sigma(times)
        return list(zip(alpha.tolist(), sigma.tolist(), strict=True))

    def _zeros(self, noised: Noised) -> Tensor:
        return torch.zeros(len(self.times), len(noised.x0), dtype=torch.float64, device=noised.x0.device)


class SharedX(Estimator):
    """Told t and told t' at the same x_t; both in one forward pass."""

    def __init__(self, denoiser: DenoiserLike, points: TimePairs) -> None:
        super().__init__(denoiser, points)
        differs = denoiser.condition(points.t) != denoiser.condition(points.neighbour)
        self.needed = torch.nonzero(differs).flatten().tolist()

    def values(self, noised: Noised) -> Tensor:
        values, cond, n = self._zeros(noised), noised.twice(), len(noised.x0)
        here, neighbour = self.points.t.to(values.device), self.points.neighbour.to(values.device)
        for k in self.needed:
            x = noised.at(*self.levels[k])
            condition_t = torch.stack([here[k], neighbour[k]]).repeat_interleave(n)
            first, second = (
                self.denoiser.output(torch.cat([x, x]), here[k].repeat(2 * n), condition_t=condition_t, **cond).double().chunk(2)
            )
            values[k] = _norm(first - second) / self.points.dt
        return values


class Coupled(Estimator):
    """The output at t against the output at t', each with its own noisy image; one pass serves two neighbouring points."""

    def __init__(self, denoiser: DenoiserLike, points: TimePairs) -> None:
        super().__init__(denoiser, points)
        self.neighbour_levels = self._levels(points.neighbour)

    def values(self, noised: Noised) -> Tensor:
        values, n = self._zeros(noised), len(noised.x0)
        here, neighbour = self.points.t.to(values.device), self.points.neighbour.to(values.device)
        reached, later = None, values
        for k, (time, next_time) in enumerate(zip(self.times, self.points.neighbour.tolist(), strict=True)):
            first = later if reached == time else self._output(noised, self.levels[k], here[k].repeat(n))
            reached, later = next_time, self._output(noised, self.neighbour_levels[k], neighbour[k].repeat(n))
            values[k] = self._distance(first, later) / self.points.dt
        return values

    def _output(self, noised: Noised, level: tuple[float, float], t: Tensor) -> Tensor:
        return self.denoiser.output(noised.at(*level), t, **noised.cond).double()

    def _distance(self, first: Tensor, later: Tensor) -> Tensor:
        return _norm(first - later)


class Norms(Coupled):
    """The norm of the output at t' less that at t, with its sign: only its mean over images is a reading of paper Eq. 8."""

    def _distance(self, first: Tensor, later: Tensor) -> Tensor:
        return _norm(later) - _norm(first)


class Derivative(Estimator):
    """The exact derivative in what the network is told, by forward-mode differentiation; one pass where it is not 0."""

    is_finite_difference = False

    def __init__(self, denoiser: DenoiserLike, points: TimePairs) -> None:
        super().__init__(denoiser, points)
        slope: Tensor = torch.func.jvp(denoiser.condition, (points.t,), (torch.ones_like(points.t),))[1]
        self.needed = torch.nonzero(slope).flatten().tolist()

    def values(self, noised: Noised) -> Tensor:
        values, n = self._zeros(noised), len(noised.x0)
        here = self.points.t.to(values.device)
        # The fused attention kernels have no forward-mode derivative.
        with sdpa_kernel(SDPBackend.MATH):
            for k in self.needed:
                x, t = noised.at(*self.levels[k]), here[k].repeat(n)

                def output(time: Tensor, x: Tensor = x, t: Tensor = t) -> Tensor:
                    return self.denoiser.output(x, t, condition_t=time, **noised.cond)

                values[k] = _norm(torch.func.jvp(output, (t,), (torch.ones_like(t),))[1].double())
        return values


def _norm(difference: Tensor) -> Tensor:
    norm: Tensor = difference.flatten(1).norm(dim=1)
    return norm


def _mean(moments: Moments) -> tuple[Tensor, Tensor]:
    return moments.mean, moments.se


def _size_of_mean(moments: Moments) -> tuple[Tensor, Tensor]:
    # E||F_t|| - E||F_t'|| is the mean of paired differences, so its error is theirs, far below that of either mean.
    return moments.mean.abs(), moments.se


def _largest(moments: Moments) -> tuple[Tensor, Tensor]:
    return moments.largest, torch.full_like(moments.largest, torch.nan)


class Mode(NamedTuple):
    """A way to measure. Fields: change, of one image; over_images, from their moments to value and standard error (NaN: none)."""

    change: type[Estimator]
    over_images: Callable[[Moments], tuple[Tensor, Tensor]]


MODES = {
    "shared-x": Mode(SharedX, _mean),
    "coupled": Mode(Coupled, _mean),
    "norm": Mode(Norms, _size_of_mean),
    "max": Mode(SharedX, _largest),
    "derivative": Mode(Derivative, _mean),
}
