"""`sample`: many images from a denoiser, in batches, each a function of the seed and its own index."""

from __future__ import annotations

from collections.abc import Iterator

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
    denoiser: Denoiser, sampler: Sampler, *, n: int, seed: int, batch_size: int, first: int = 0, y: Tensor | None = None
) -> Iterator[tuple[range, Step]]:
    """Yields every step of every batch, with the indices of its samples; the arguments are those of `sample`."""
    for start in range(first, first + n, batch_size):
        indices = range(start, min(start + batch_size, first + n))
        noise = normal(seed, "sampling/noise", indices, denoiser.shape).to(denoiser.device)
        cond = {} if y is None else {"y": y[indices.start - first : indices.stop - first].to(denoiser.device)}
        for step in sampler.trajectory(denoiser, noise, SampleNoise(seed, "sampling/steps", indices), **cond):
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

    Returns:
        float32 on the CPU, (n, C, H, W), in [-1, 1].

    Raises:
        ValueError: n or batch_size is below 1.
        RegistryError: there is no such sampler.
    """
    for name, value in (("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}: {value} is too few; give 1 or more")
    batches = sample_batches(denoiser, resolve_sampler(sampler, steps), n=n, seed=seed, batch_size=batch_size, first=first, y=y)
    images = [step.x.clamp(-1, 1).float().cpu() for _, step in batches if step.i == step.n]
    return torch.cat(images)
