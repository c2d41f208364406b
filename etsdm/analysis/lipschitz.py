"""How fast a denoiser's output changes with time: the estimator K(t, t') of paper Eq. 8.

    K(t, t') = E || F(x_t, t) - F(x_t, t') ||_2 / |t - t'|,    x_t = alpha_t x0 + sigma_t eps

and the other readings of it that `etsdm.analysis.modes` lists. The mean is over images, each with one noise of its own; F is the
network's output in its own space (eps, v, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.modes import MODES, Measurable, Noised
from etsdm.analysis.running_moments import Moments
from etsdm.analysis.time_pairs import TimePairs
from etsdm.errors import PartError
from etsdm.randomness import per_sample_normal
from etsdm.registry import suggestion
from etsdm.schedules import Schedule

__all__ = ["Batches", "LipschitzCurve", "batches_of", "lipschitz_curve", "points_of"]

Batches = Tensor | Iterable[Tensor | tuple[Tensor, Tensor | Mapping[str, Tensor]]]


class LipschitzCurve(NamedTuple):
    """K(t, t + dt) at several t.

    Fields: t, times in the schedule's unit, (M,); mean, over images (in mode `max` the largest), (M,); se, its standard error,
    NaN where there is none, (M,); values, of each image, (M, N), None unless they were asked for; dt, the distance in time; mode;
    images, how many; per, the length of time that the values are per, in the schedule's unit; step and horizon, likewise. Tensors
    are float64 on the CPU.
    """

    t: Tensor
    mean: Tensor
    se: Tensor
    values: Tensor | None
    dt: float
    mode: str
    images: int
    per: float
    step: float
    horizon: float

    @property
    def unit(self) -> str:
        """What the values are per, in words."""
        return {self.horizon: "per unit of time", self.step: "per step"}.get(self.per, "per unit of t")

    def per_unit_time(self) -> LipschitzCurve:
        """The same with the schedule's horizon as the unit of time: T times the change per step."""
        return self._with_values_per(self.horizon)

    def per_step(self) -> LipschitzCurve:
        """The same per step: 1 of a discrete schedule, 1/1000 of the horizon of a continuous one."""
        return self._with_values_per(self.step)

    def _with_values_per(self, length: float) -> LipschitzCurve:
        factor = length / self.per
        values = None if self.values is None else self.values * factor
        return self._replace(mean=self.mean * factor, se=self.se * factor, values=values, per=length)


@torch.no_grad()
def lipschitz_curve(
    denoiser: Measurable,
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
    """Estimates how much the output changes from t to t + dt, at each t.

    Args:
        denoiser: trained, in eval mode, or exact.
        images: clean images to noise, (N, C, H, W), in [-1, 1], or whatever the denoiser takes, (N, ...); or an iterable of such
            batches, or of pairs (images, labels) or (images, mapping of all that the network takes besides), which is gone through
            once.
        t: times in the schedule's unit, the first 200 steps by default; t + dt must be in its domain too.
        mode: `shared-x`, only what the network is told changes (a); `coupled`, the noise level of the image changes as well (b);
            `norm`, the change of the mean norm (c); `max`, as (a) for the worst image (d); `derivative`, the exact limit of (a)
            for small dt (e). The module `etsdm.analysis.modes` has the formulas.
        dt: distance in time, one step by default: 1 of a discrete schedule, 1/1000 of the horizon of a continuous one.
        seed: seed of the images' noise, the same for all t; the noise of image k depends on it and on k alone.
        batch_size: images in one pass at most; in modes `shared-x` and `max` every image goes through twice in it.
        y: class labels, (N,), for a class-conditional denoiser, where `images` is one tensor.
        keep_values: keep the value of each image, M x N numbers.

    Returns:
        The curve, per unit of the schedule's time: per step of a discrete schedule.

    Raises:
        PartError: the mode is unknown, a time or its neighbour is outside the schedule's domain, or there are no images.
    """
    schedule = denoiser.schedule
    points = points_of(schedule, t, mode, dt)
    change, over_images = MODES[mode].change(denoiser, points), MODES[mode].over_images
    moments, kept = Moments(len(points.t)), []
    for x0, cond in batches_of(images, y, batch_size):
        eps = per_sample_normal(seed, "lipschitz/noise", range(moments.n, moments.n + len(x0)), x0.shape[1:])
        values = change.values(Noised.of(x0, eps, cond, denoiser.device)).cpu()
        moments.add(values)
        if keep_values:
            kept.append(values)
    if not moments.n:
        raise PartError("images", "none are given; give one or more")
    mean, se = over_images(moments)
    together = torch.cat(kept, dim=1) if keep_values else None
    return LipschitzCurve(points.t, mean, se, together, points.dt, mode, moments.n, 1.0, schedule.step, schedule.horizon)


def points_of(schedule: Schedule, t: Iterable[float] | None, mode: str, dt: float | None) -> TimePairs:
    """Where a curve is measured, after all that `lipschitz_curve` refuses but a lack of images; arguments and errors are its."""
    if mode not in MODES:
        raise PartError("mode", f"{mode!r} is no mode; {suggestion(mode, MODES, 'modes')}")
    if not MODES[mode].change.is_finite_difference:
        if dt is not None:
            raise PartError("dt", f"mode {mode!r} is a limit and has no distance in time; leave it out")
        return TimePairs.of(schedule, t, 0.0)
    if dt == 0:
        raise PartError("dt", "0 is no distance in time; give a value above 0, or mode 'derivative' for the limit")
    return TimePairs.of(schedule, t, dt)


def batches_of(images: Batches, y: Tensor | None, batch_size: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Images with what the network takes besides, at most `batch_size` at a time."""
    if batch_size < 1:
        raise PartError("batch_size", f"{batch_size} is too few; give 1 or more")
    if y is not None and not isinstance(images, Tensor):
        raise PartError("y", "labels of batches come with them; give pairs (images, labels)")
    for batch in [images if y is None else (images, y)] if isinstance(images, Tensor) else images:
        x0, besides = (batch, {}) if isinstance(batch, Tensor) else batch
        cond = {"y": besides} if isinstance(besides, Tensor) else besides
        for start in range(0, len(x0), batch_size):
            rows = slice(start, start + batch_size)
            yield x0[rows], {key: value[rows] for key, value in cond.items()}
