"""The stability test: how much a disturbance of a noisy image moves the image that is predicted from it (paper Fig. 2).

    x = alpha x0 + sigma eps at t_tilde,   d(r) = sqrt( E ( x0_hat(x + r z) - x0_hat(x) )^2 ),   z ~ N(0, I)

with the mean over elements and images. The paper does not say what x0_hat is; both readings are here:

    chain       (B)   the reverse chain from t_tilde down to the clean image, with the same noise of the sampler for every r;
                      it passes through all conditions that are shared
    one-shot    (A)   the clean image predicted at t_tilde itself, E[x0 | x]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.lipschitz import Batches, batches_of
from etsdm.analysis.modes import Measurable, Noised
from etsdm.analysis.running_moments import Moments
from etsdm.errors import PartError
from etsdm.grids import Explicit
from etsdm.randomness import SampleNoise, per_sample_normal
from etsdm.registry import suggestion
from etsdm.samplers import DDPM, Sampler
from etsdm.schedules import Schedule

__all__ = ["READINGS", "SCALES", "StabilityCurve", "stability_curve"]

SCALES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # of the disturbance, in pixels of [-1, 1]
READINGS = ("chain", "one-shot")


class StabilityCurve(NamedTuple):
    """Change of the predicted image against the scale of the disturbance.

    Fields: r, scales, (R,); rms, root mean square change, (R,); se, its standard error over images, NaN for one image, (R,);
    t_tilde, where it was disturbed; reading; images, how many. Tensors are float64 on the CPU.
    """

    r: Tensor
    rms: Tensor
    se: Tensor
    t_tilde: float
    reading: str
    images: int


@torch.no_grad()
def stability_curve(
    denoiser: Measurable,
    images: Batches,
    t_tilde: float | None = None,
    *,
    scales: Sequence[float] = SCALES,
    reading: Literal["chain", "one-shot"] = "chain",
    sampler: Sampler | None = None,
    seed: int = 0,
    batch_size: int = 128,
    y: Tensor | None = None,
) -> StabilityCurve:
    """Disturbs noisy images and measures how far the predicted clean images move.

    Args:
        denoiser: trained, in eval mode, or exact.
        images: clean images, as for `lipschitz_curve`.
        t_tilde: the time of the noisy images, in the schedule's unit; a tenth of the horizon by default, 100 of 1000 steps.
        scales: standard deviations r of the disturbance.
        reading: `chain` or `one-shot`, see the module.
        sampler: of the chain, which steps through every time below t_tilde whatever its own grid is; DDPM of paper Eq. 10 by
            default. Its noise is the same for every r.
        seed: seed of all noise; that of image k depends on it and on k alone, and the disturbances of an image differ in r only.
        batch_size: images in one pass.
        y: class labels, (N,), for a class-conditional denoiser, where `images` is one tensor.

    Returns:
        The curve, one point a scale.

    Raises:
        PartError: there are no images or scales, t_tilde is outside the schedule's domain, or the reading is unknown.
    """
    if reading not in READINGS:
        raise PartError("reading", f"{reading!r} is no reading; {suggestion(reading, READINGS, 'readings')}")
    if not len(scales):
        raise PartError("scales", "no scale is given; give one or more")
    t = denoiser.schedule.horizon / 10 if t_tilde is None else t_tilde
    try:
        alpha, sigma = (float(value) for value in denoiser.schedule.alpha_sigma(t))
    except PartError as error:
        raise PartError("t_tilde", error.message) from None
    chain = _down_from(t, denoiser.schedule, DDPM() if sampler is None else sampler) if reading == "chain" else None
    moments = Moments(len(scales))
    for x0, cond in batches_of(images, y, batch_size):
        indices = range(moments.n, moments.n + len(x0))
        eps, disturbance = (per_sample_normal(seed, f"stability/{name}", indices, x0.shape[1:]) for name in ("noise", "disturbance"))
        noised = Noised.of(x0, eps, cond, denoiser.device)
        z = disturbance.to(noised.eps)
        x = noised.at(alpha, sigma)
        predict = _one_shot(denoiser, t, noised.cond) if chain is None else _chain(denoiser, chain, seed, indices, noised.cond)
        undisturbed = predict(x)
        moved = [predict(x + r * z) - undisturbed if r else torch.zeros_like(undisturbed) for r in scales]
        moments.add(torch.stack([change.double().square().flatten(1).mean(1) for change in moved]).cpu())
    if not moments.n:
        raise PartError("images", "none are given; give one or more")
    rms = moments.mean.sqrt()
    # By the delta method, from the standard error of the mean square.
    se = torch.where(rms > 0, moments.se / (2 * rms), moments.se)
    return StabilityCurve(torch.tensor(scales, dtype=torch.float64), rms, se, t, reading, moments.n)


def _down_from(t: float, schedule: Schedule, sampler: Sampler) -> Sampler:
    """The sampler on every step from t down to the last one before the clean image."""
    count = int(t + 1) if schedule.is_discrete else max(1, round(t / schedule.step))
    times = tuple(t - schedule.step * i for i in range(count))
    return sampler.model_copy(update={"grid": Explicit(at=times), "steps": count})


def _one_shot(denoiser: Measurable, t: float, cond: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    def predict(x: Tensor) -> Tensor:
        return denoiser.predict(x, torch.full((len(x),), t, dtype=torch.float64, device=x.device), **cond).x0

    return predict


def _chain(
    denoiser: Measurable, sampler: Sampler, seed: int, indices: Sequence[int], cond: dict[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    def predict(x: Tensor) -> Tensor:
        for step in sampler.trajectory(denoiser, x, SampleNoise(seed, "stability/steps", indices), start=None, **cond):
            x = step.x
        return x

    return predict
