"""`sample`: many images from a denoiser, in batches, each a function of the seed and its own index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from pydantic import ValidationError
from torch import Tensor

from etsdm.denoiser import Denoiser
from etsdm.randomness import SampleNoise, normal
from etsdm.registry import RegistryError, samplers
from etsdm.samplers.base import Sampler, Step

__all__ = ["resolve_sampler", "sample", "sample_batches"]


def resolve_sampler(sampler: Sampler | str, steps: int | None = None) -> Sampler:
    """A sampler from its name or itself, with another number of steps if one is given.

    Raises:
        RegistryError: the name is unknown, or the sampler takes no such number of steps.
    """
    if isinstance(sampler, str):
        created: Sampler = samplers.create(sampler, **({} if steps is None else {"steps": steps}))
        return created
    if steps is None:
        return sampler
    try:
        return type(sampler).model_validate({**sampler.model_dump(), "steps": steps})
    except ValidationError:
        raise RegistryError(f"steps: {steps!r} does not suit sampler {sampler.type_name!r}; give 1 or more") from None


def sample_batches(
    denoiser: Denoiser, sampler: Sampler, cond: Mapping[str, Tensor | None], *, n: int, seed: int, batch_size: int, first: int = 0
) -> Iterator[tuple[range, Step]]:
    """Yields every step of every batch, with the indices of its samples.

    `cond` is what the network takes besides, a row a sample or None; the other arguments are those of `sample`.
    """
    for start in range(first, first + n, batch_size):
        indices = range(start, min(start + batch_size, first + n))
        noise = normal(seed, "sampling/noise", indices, denoiser.shape).to(denoiser.device)
        rows = slice(indices.start - first, indices.stop - first)
        given = {key: value[rows].to(denoiser.device) for key, value in cond.items() if value is not None}
        for step in sampler.trajectory(denoiser, noise, SampleNoise(seed, "sampling/steps", indices), **given):
            yield indices, step


def sample(
    denoiser: Denoiser,
    n: int = 16,
    *,
    sampler: Sampler | str = "ddim",
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    first: int = 0,
    y: Tensor | None = None,
    low_res: Tensor | None = None,
) -> Tensor:
    """Draws images. Image k depends on the seed and on k alone, not on its batch.

    Args:
        denoiser: what `etsdm.load` gives, in eval mode.
        n: how many.
        sampler: a name or a sampler.
        steps: number of steps, where not the sampler's own.
        seed: seed of the starting noise and of the steps' noise.
        batch_size: images in one pass of the network.
        first: index of the first image.
        y: class labels, (n,), for a class-conditional denoiser.
        low_res: small images, (n, C, H / factor, W / factor) in [-1, 1], for super-resolution.

    Returns:
        float32 on the CPU, (n, C, H, W), in [-1, 1].

    Raises:
        ValueError: n or batch_size is below 1.
        RegistryError: there is no such sampler.
    """
    for name, value in (("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}: {value} is too few; give 1 or more")
    chosen, cond = resolve_sampler(sampler, steps), {"y": y, "low_res": low_res}
    batches = sample_batches(denoiser, chosen, cond, n=n, seed=seed, batch_size=batch_size, first=first)
    images = [denoiser.decode(step.x).clamp(-1, 1).float().cpu() for _, step in batches if step.i == step.n]
    return torch.cat(images)
