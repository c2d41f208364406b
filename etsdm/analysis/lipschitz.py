"""Lipschitz curves: the constant K(t, t') of a denoiser's output in time (paper Eq. 8).

    K(t, t') = E || F(x_t, t) - F(x_t, t') ||_2 / |t - t'|,    x_t = alpha_t x0 + sigma_t eps

and the other modes of `etsdm.analysis.modes`. The mean is over images, each with one noise; F is the network's output in the space of
its target (eps, v, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.modes import MODES
from etsdm.analysis.running_moments import Moments
from etsdm.analysis.time_pairs import TimePairs
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.denoisers.wrappers.base import wide_images
from etsdm.errors import PartError
from etsdm.randomness import per_sample_normal
from etsdm.registry import suggestion
from etsdm.schedules import Schedule

__all__ = ["Batches", "LipschitzCurve", "batches_of", "lipschitz_curve", "pairs_for_mode"]

Batches = Tensor | Iterable[Tensor | tuple[Tensor, Tensor | Mapping[str, Tensor]]]


class LipschitzCurve(NamedTuple):
    """Estimates of K(t, t + dt) at several t; tensors are float64 on the CPU.

    Fields: t, times in the schedule's unit, (M,); mean over images, in mode `max` the maximum, (M,); se, standard error of the mean, NaN
    where undefined, (M,); values of each image, (M, N), None without `keep_values`; dt, distance in time, (M,); mode; images, number of
    images; per, the unit of time of the values, `t` of the schedule, `time` or `step`; step, length of a step at each t, (M,), and horizon
    of the schedule.
    """

    t: Tensor
    mean: Tensor
    se: Tensor
    values: Tensor | None
    dt: Tensor
    mode: str
    images: int
    per: Literal["t", "time", "step"]
    step: Tensor
    horizon: float

    @property
    def unit(self) -> str:
        """Unit of time of the values, in words."""
        if self.per == "time" or (self.per == "t" and self.horizon == 1):
            return "per unit of time"
        return "per step" if self.per == "step" or bool((self.step == 1).all()) else "per unit of t"

    def per_unit_time(self) -> LipschitzCurve:
        """Converts the values to the schedule's horizon as unit of time: T times the change per step."""
        return self._with_values_per("time")

    def per_step(self) -> LipschitzCurve:
        """Converts the values to steps as unit of time.

        A step is 1 for a discrete schedule, 1/1000 of the horizon for a continuous one, and a constant share of t where t is a noise level.
        """
        return self._with_values_per("step")

    def _with_values_per(self, per: Literal["time", "step"]) -> LipschitzCurve:
        lengths = {"t": torch.ones_like(self.step), "time": torch.full_like(self.step, self.horizon), "step": self.step}
        factor = lengths[per] / lengths[self.per]
        values = None if self.values is None else self.values * factor[:, None]
        return self._replace(mean=self.mean * factor, se=self.se * factor, values=values, per=per)


@torch.no_grad()
def lipschitz_curve(
    denoiser: DenoiserLike,
    images: Batches,
    t: Iterable[float] | None = None,
    *,
    mode: str = "shared-x",
    dt: float | None = None,
    seed: int = 0,
    batch_size: int = 128,
    y: Tensor | None = None,
    keep_values: bool = False,
) -> LipschitzCurve:
    """Estimates the Lipschitz constant K(t, t + dt) of a denoiser's output, at each t.

    Args:
        denoiser: trained, in eval mode, or exact.
        images: clean images, (N, C, H, W), in [-1, 1], or latents or data of the denoiser's shape, (N, ...); or an iterable of such
            batches, or of pairs (images, labels) or (images, mapping of further network inputs), which is iterated once.
        t: times in the schedule's unit, the first 200 steps by default; t + dt must be in its domain too.
        mode: `shared-x`, only the condition changes (a); `coupled`, the noise level of the image changes as well (b); `norm`, the
            change of the mean norm (c); `max`, as (a) with the maximum over images (d); `derivative`, the limit of (a) for dt -> 0
            (e). Formulas in `etsdm.analysis.modes`.
        dt: distance in time, one step by default: 1 for a discrete schedule, 1/1000 of the horizon for a continuous one, and a constant
            share of t where t is a noise level.
        seed: seed of the images' noise, the same for all t; the noise of image k depends on the seed and k alone.
        batch_size: maximum number of images in a forward pass, each of them twice in modes `shared-x` and `max`.
        y: class labels, (N,), for a class-conditional denoiser, where `images` is one tensor.
        keep_values: keep the value of each image, M x N numbers.

    Returns:
        The curve, per unit of the schedule's time: per step of a discrete schedule.

    Raises:
        PartError: the mode is unknown, a time or its neighbour is outside the schedule's domain, or there are no images.
    """
    refuse_incomplete(denoiser)
    schedule = denoiser.schedule
    pairs = pairs_for_mode(schedule, t, mode, dt)
    estimator = MODES[mode].estimator(denoiser, pairs)
    moments, kept = Moments(len(pairs.t)), []
    for x0, cond in batches_of(images, y, batch_size):
        eps = per_sample_normal(seed, "lipschitz/noise", range(moments.n, moments.n + len(x0)), x0.shape[1:])
        values = estimator.values(NoisyBatch.on(denoiser.device, x0, eps, cond)).cpu()
        moments.add(values)
        if keep_values:
            kept.append(values)
    if not moments.n:
        raise PartError("images", "none are given; give one or more")
    mean, se = MODES[mode].reduce(moments)
    together = torch.cat(kept, dim=1) if keep_values else None
    return LipschitzCurve(pairs.t, mean, se, together, pairs.dt, mode, moments.n, "t", pairs.step, schedule.horizon)


def pairs_for_mode(schedule: Schedule, t: Iterable[float] | None, mode: str, dt: float | None) -> TimePairs:
    """Checks mode, t and dt of `lipschitz_curve` and makes its pairs of times; arguments and errors as there."""
    if mode not in MODES:
        raise PartError("mode", f"{mode!r} is no mode; {suggestion(mode, MODES, 'modes')}")
    if not MODES[mode].estimator.is_finite_difference:
        if dt is not None:
            raise PartError("dt", f"mode {mode!r} is a limit and has no distance in time; leave it out")
        return TimePairs.of(schedule, t, 0.0)
    if dt == 0:
        raise PartError("dt", "0 is no distance in time; give a value above 0, or mode 'derivative' for the limit")
    return TimePairs.of(schedule, t, dt)


def batches_of(images: Batches, y: Tensor | None, batch_size: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Iterates over images and their further network inputs, at most `batch_size` at a time."""
    if batch_size < 1:
        raise PartError("batch_size", f"{batch_size} is too few; give 1 or more")
    if y is not None and not isinstance(images, Tensor):
        raise PartError("y", "found labels beside an iterable of batches; give pairs (images, labels)")
    if isinstance(images, Tensor) or not isinstance(images, Iterable) or hasattr(images, "__array__"):
        images = [(wide_images(images), {} if y is None else y)]
    for batch in images:
        x0, inputs = batch if isinstance(batch, (tuple, list)) else (batch, {})
        x0 = wide_images(x0)
        cond = {"y": inputs} if isinstance(inputs, Tensor) else inputs
        for start in range(0, len(x0), batch_size):
            rows = slice(start, start + batch_size)
            yield x0[rows], {key: value[rows] for key, value in cond.items()}
