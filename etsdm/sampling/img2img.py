"""From images to similar images: noised to some time, and denoised from there (SDEdit, Meng et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.denoisers.wrappers.base import on_device, wide_images
from etsdm.randomness import SampleNoise, per_sample_normal
from etsdm.sampling.generate import SamplerLike, resolve_sampler

__all__ = ["img2img"]


def img2img(
    denoiser: DenoiserLike,
    images: Tensor,
    *,
    start: float,
    sampler: SamplerLike = "ddim",
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
    **cond: Tensor,
) -> Tensor:
    """Noises images to time `start` and samples from there; the later it is, the less of them is left.

    Image k depends on the seed and on k alone; its noise is that of image k of `sample`.

    Args:
        denoiser: trained, in eval mode, exact, or wrapped.
        images: clean images, in the space of the denoiser's x, (B, *shape): latents where there is a first stage.
        start: the time from which is sampled, in the schedule's unit.
        sampler: a sampler, its name, or a mapping of its fields with `type`.
        steps: number of steps, where not the sampler's own.
        seed: seed of the images' noise and of the steps' noise.
        first: index of the first image.
        **cond: further inputs of the network, for example labels `y` of shape (B,).

    Returns:
        The new images, in the shape, dtype and space of the given ones, on the denoiser's device.

    Raises:
        ValueError: the start is outside the schedule, or leaves too few times for the steps.
        RegistryError: there is no such sampler.

    Warns:
        UserWarning: the grid begins at another noise level than that of `start`, or visible noise is left at a `t_end`.
    """
    refuse_incomplete(denoiser)
    chosen, indices = resolve_sampler(sampler, steps), range(first, first + len(images))
    chosen.warn_of_ends(denoiser, start, from_images=True)
    alpha, sigma = (value.item() for value in denoiser.schedule.alpha_sigma(chosen.times(denoiser, start)[0].item()))
    dtype = images.dtype
    images, given = on_device(denoiser, wide_images(images), cond)
    noise = per_sample_normal(seed, "sampling/noise", indices, images.shape[1:]).to(images)
    x = alpha * images + sigma * noise
    *_, step = chosen.trajectory(denoiser, x, SampleNoise(seed, "sampling/steps", indices), start=start, **given)
    return step.x.to(dtype)
