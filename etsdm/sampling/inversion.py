"""Inversion: from images to the noise that a deterministic sampler would start from.

Deterministic samplers follow the probability flow (paper Eq. 3)

    dx = x0(x, t) d alpha + eps(x, t) d sigma,

and their update from one point to the next is as good a step to more noise as to less: DDIM's is x_t = alpha_t x0 + sigma_t eps
in both directions (Song, Meng and Ermon 2021, "Denoising Diffusion Implicit Models", section 4.3). The only point without a network
call is the clean image. From there the first step has eps(alpha_t x, t) at the first noisy point t; what DDIM's own last step loses of
x, it finds again up to sigma_t^4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike
from etsdm.denoisers.time_point import TimePoint
from etsdm.denoisers.wrappers.base import on_device
from etsdm.denoisers.zero_denoiser import ZeroDenoiser
from etsdm.samplers import Sampler
from etsdm.samplers.model import CountedModel
from etsdm.sampling.generate import resolve_sampler

__all__ = ["invert"]


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
    sampler: Sampler | str = "ddim",
    steps: int | None = None,
    start: float | None = None,
    **cond: Tensor,
) -> Tensor:
    """The noise from which a deterministic sampler draws the given images.

    It solves the flow along the sampler's own path, backwards, at the sampler's order of accuracy, so that sampling from the
    result with the same sampler gives the images up to an error of that order. x0 is not clipped on the way, whatever the
    sampler says. It takes as many network calls as sampling does, or one more.

    Args:
        denoiser: trained, in eval mode, exact, or wrapped.
        images: in the space of what is denoised, (B, *shape): clean, or with the noise of the sampler's `t_end` if it has one.
        sampler: a name or a sampler.
        steps: number of steps, where not the sampler's own.
        start: the time to which images are noised, from which sampling then starts; the schedule's last by default.
        **cond: further inputs of the network, for example labels `y` of shape (B,).

    Returns:
        x at the path's first point, in the shape and dtype of the images, on the denoiser's device: the `noise` of `Sampler.trajectory`.

    Raises:
        ValueError: the sampler adds noise, or its grid does not suit the schedule, the number of steps or the start.
        RegistryError: there is no such sampler.
    """
    chosen = resolve_sampler(sampler, steps).model_copy(update={"clip_x0": False, "dynamic_threshold": None})
    path = chosen.path(denoiser, start)
    nothing = torch.zeros(1, *images.shape[1:], dtype=torch.float64)
    for _ in chosen._steps(CountedModel(ZeroDenoiser(denoiser), {}), path, nothing, NoiseForbidden(chosen)):
        pass
    x, given = on_device(denoiser, images, cond)
    return _along(CountedModel(denoiser, given), chosen, path[::-1], x)


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
