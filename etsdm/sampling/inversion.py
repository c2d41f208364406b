"""Inversion: from images to the noise that a deterministic sampler would start from.

Deterministic samplers follow the probability flow (paper Eq. 3)

    dx = x0(x, t) d alpha + eps(x, t) d sigma,

and their update from one point to the next is as good a step to more noise as to less: DDIM's is x_t = alpha_t x0 + sigma_t eps
in both directions (Song, Meng and Ermon 2021, "Denoising Diffusion Implicit Models", section 4.3). The only point without a network
call is the clean image. From there the first step has eps(alpha_t x, t) at the first noisy point t; what DDIM's own last step loses of
x, it finds again up to sigma_t^4.

Clipped x0 is not the flow's, and noise leads nowhere back. Extrapolation (`lms`, and other multistep solvers in few steps) amplifies
errors on the way to noise; x that has grown far beyond its level is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.denoisers.time_point import TimePoint
from etsdm.denoisers.wrappers.base import on_device, wide_images
from etsdm.denoisers.zero_denoiser import ZeroDenoiser
from etsdm.errors import PartError
from etsdm.samplers import Sampler
from etsdm.samplers.model import CountedModel
from etsdm.sampling.generate import SamplerLike, resolve_sampler

__all__ = ["invert"]


LARGEST_GROWTH = 10  # of x beyond the root mean square of alpha x0 + sigma eps


class NoiseForbidden:
    """The noise source of an inversion, from which no noise may be drawn."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Raises ValueError: the sampler is stochastic."""
        raise ValueError(f"sampler: {self._sampler.type_name!r} adds noise, so that nothing leads back; give a deterministic one, or eta 0")


@torch.no_grad()
def invert(
    denoiser: DenoiserLike,
    images: Tensor,
    *,
    sampler: SamplerLike = "ddim",
    steps: int | None = None,
    start: float | None = None,
    **cond: Tensor,
) -> Tensor:
    """The noise from which a deterministic sampler draws the given images.

    It solves the flow along the sampler's own path, backwards, at the sampler's order of accuracy, so that sampling from the
    result with the same sampler gives the images up to an error of that order. A sampler that clips where clean x lie in [-1, 1]
    (`clip_x0` None, as of `ddim`) is taken without clipping: sample from the result with `clip_x0` false. It takes as many network
    calls as sampling does, or one more.

    Args:
        denoiser: trained, in eval mode, exact, or wrapped.
        images: in the space of what is denoised, (B, *shape): clean, or with the noise of the sampler's `t_end` if it has one.
        sampler: a sampler, its name, or a mapping of its fields with `type`.
        steps: number of steps, where not the sampler's own.
        start: the time to which images are noised, from which sampling then starts; the schedule's last by default.
        **cond: further inputs of the network, for example labels `y` of shape (B,).

    Returns:
        x at the path's first point, in the shape and dtype of the images, on the denoiser's device: the `noise` of `Sampler.trajectory`.

    Raises:
        ValueError: the sampler adds noise, clips x0 everywhere (`PartError`), has lost its stability (`PartError`), or its grid does not
            suit the schedule, the number of steps or the start.
        RegistryError: there is no such sampler.

    Warns:
        UserWarning: as `Sampler.warn_of_ends`.
    """
    refuse_incomplete(denoiser)
    chosen = resolve_sampler(sampler, steps)
    for name, value in (("clip_x0", chosen.clip_x0), ("dynamic_threshold", chosen.dynamic_threshold)):
        if value:
            message = f"found {value}, but a clipped x0 leads to other images than those that were inverted"
            raise PartError(("sampler", name), f"{message}; leave it out here and in sampling ({'false' if value is True else 'null'})")
    chosen = chosen.model_copy(update={"clip_x0": False})
    path = chosen.path(denoiser, start)
    chosen.warn_of_ends(denoiser, start, from_images=start is not None)
    nothing = torch.zeros(1, *images.shape[1:], dtype=torch.float64)
    for _ in chosen._steps(CountedModel(ZeroDenoiser(denoiser), {}), path, nothing, NoiseForbidden(chosen)):
        pass
    x, given = on_device(denoiser, wide_images(images), cond)
    noise = _along(CountedModel(denoiser, given), chosen, path[::-1], x)
    if not noise.is_meta:
        _refuse_growth(chosen, path, x, noise)
    return noise.to(images.dtype)


def _refuse_growth(sampler: Sampler, path: Sequence[TimePoint], x: Tensor, noise: Tensor) -> None:
    """Raises PartError if the noise of images x at the first point of a path is larger than theirs can be."""
    level, found = math.hypot(path[0].alpha * _rms(x), path[0].sigma), _rms(noise)
    if not found < LARGEST_GROWTH * level:
        message = f"{sampler.type_name!r} has lost its stability on the way to noise: x has grown to {found:.3g} where {level:.3g} is due"
        raise PartError("sampler", f"{message}; give more than {len(path) - 1} steps, or a solver that does not extrapolate, such as heun")


def _rms(x: Tensor) -> float:
    """Largest root mean square of an image."""
    return x.flatten(1).double().square().mean(1).max().sqrt().item()


def _along(model: CountedModel, sampler: Sampler, path: Sequence[TimePoint], x: Tensor) -> Tensor:
    """x at the last of the points, from x at the first."""
    if path[0].lam == math.inf:
        path = path[1:]
        prediction = model(path[0].alpha * x, path[0])
        x = path[0].alpha * x + path[0].sigma * prediction.eps
    # A solver that works with log(alpha/sigma) reaches no point without signal.
    within = path[:-1] if path[-1].alpha == 0 else path
    if len(within) > 1:
        *_, result = sampler._steps(model, within, x, NoiseForbidden(sampler))
        x = result.x
    if len(within) < len(path) and within:
        prediction = model(x, within[-1])
        x = path[-1].alpha * prediction.x0 + path[-1].sigma * prediction.eps
    return x
