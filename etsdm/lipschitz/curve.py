"""How fast a denoiser's output changes with time: the estimator K(t, t') of paper Eq. 8.

    K(t, t') = E || F(x_t, t) - F(x_t, t') ||_2 / |t - t'|,    x_t = alpha_t x0 + sigma_t eps

Both evaluations see the same x_t; only the condition differs, so a denoiser that is told the same at t and t' has K = 0
exactly, and no forward pass is spent on it. The norm is over all elements of one image, the mean over images, each with one
noise of its own. F is the network's output in its own space (eps, v, ...). The division is by the true |t - t'|.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.denoiser import Denoiser
from etsdm.randomness import normal

__all__ = ["LipschitzCurve", "lipschitz_curve"]


class LipschitzCurve(NamedTuple):
    """K(t, t + dt) at several t.

    Fields: t, times in the schedule's unit, (M,); mean, the mean over images, (M,); se, its standard error, (M,); values, the
    value of each image, (M, N); dt, the distance in time. All on the CPU, float64; per unit of the schedule's time.
    """

    t: Tensor
    mean: Tensor
    se: Tensor
    values: Tensor
    dt: float


@torch.no_grad()
def lipschitz_curve(
    denoiser: Denoiser,
    images: Tensor,
    t: Iterable[float] = range(200),
    *,
    dt: float = 1.0,
    seed: int = 0,
    batch_size: int = 128,
    y: Tensor | None = None,
) -> LipschitzCurve:
    """Estimates K(t, t + dt) at each t.

    Args:
        denoiser: in eval mode.
        images: clean images to noise, (N, C, H, W), in [-1, 1].
        t: times in the schedule's unit; t + dt must be in its domain too.
        dt: distance in time, one step of a discrete schedule by default.
        seed: seed of the images' noise, the same for all t.
        batch_size: images in one pass; both conditions of an image go through together.
        y: class labels, (N,), for a class-conditional denoiser.

    Returns:
        The curve, with the value of each image.

    Raises:
        ValueError: a time is outside the schedule's domain, or there are no images or times.
    """
    times = torch.tensor([float(value) for value in t], dtype=torch.float64)
    if not len(images) or not len(times):
        raise ValueError(f"{len(images)} images and {len(times)} times; give one or more of each")
    device = denoiser.device
    here, there = denoiser.condition(times), denoiser.condition(times + dt)
    alpha, sigma = denoiser.schedule.alpha_sigma(times)
    denoiser.schedule.alpha(times + dt)  # refuses times whose neighbour is outside the domain
    noise = normal(seed, "lipschitz/noise", range(len(images)), images.shape[1:])
    values = torch.zeros(len(times), len(images), dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        x0, eps = images[rows].to(device), noise[rows].to(device)
        labels = {} if y is None else {"y": y[rows].to(device).repeat(2)}
        for k in torch.nonzero(here != there).flatten().tolist():
            x = (float(alpha[k]) * x0 + float(sigma[k]) * eps).repeat(2, 1, 1, 1)
            pair = times[k] + torch.tensor([0.0, dt], dtype=torch.float64).repeat_interleave(len(x0))
            first, second = denoiser.output(x, pair.to(device), **labels).double().chunk(2)
            values[k, rows] = ((first - second).flatten(1).norm(dim=1) / dt).cpu()
    se = values.std(dim=1) / len(images) ** 0.5 if len(images) > 1 else torch.full_like(times, float("nan"))
    return LipschitzCurve(times, values.mean(1), se, values, dt)
