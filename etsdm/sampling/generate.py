"""`etsdm.sample`: images from a denoiser, in batches, each a function of the seed and its own index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.denoisers.wrappers.base import on_device
from etsdm.errors import PartError
from etsdm.randomness import SampleNoise, per_sample_normal
from etsdm.registry import quoted, samplers
from etsdm.samplers import Sampler, Step

__all__ = ["SamplerLike", "resolve_sampler", "sample", "sample_batches", "starting_noise", "trajectory_of"]

SamplerLike = Sampler | str | Mapping[str, Any]  # a sampler, its name, or its fields with a `type`


def resolve_sampler(sampler: SamplerLike, steps: int | None = None) -> Sampler:
    """A sampler from itself, its name or its fields, with another number of steps if one is given.

    Raises:
        RegistryError: the name is unknown, or a field invalid.
        PartError: the sampler takes no such number of steps.
    """
    given: Any = {"type": sampler} if isinstance(sampler, str) else sampler
    if steps is not None and isinstance(given, Mapping):
        given = {**given, "steps": steps}
    made: Sampler = samplers.make(given)
    return made if steps is None or isinstance(given, Mapping) else made.with_steps(steps)


def starting_noise(denoiser: DenoiserLike, sampler: Sampler, indices: Sequence[int], *, seed: int, start: float | None = None) -> Tensor:
    """x at the first point of a path, for samples of these indices.

    Standard normal where the schedule preserves variance, whatever alpha is left there; else sigma times that, as of EDM.

    Returns:
        float32, (len(indices), *shape), on the denoiser's device.
    """
    noise = per_sample_normal(seed, "sampling/noise", indices, denoiser.shape).to(denoiser.device)
    if denoiser.schedule.variance_preserving:
        return noise
    return denoiser.schedule.sigma(sampler.times(denoiser, start)[0].item()).item() * noise


def trajectory_of(
    denoiser: DenoiserLike, sampler: Sampler, indices: Sequence[int], *, seed: int, start: float | None = None, **cond: Tensor
) -> Iterator[Step]:
    """Steps of one batch of samples.

    Args:
        denoiser: trained, in eval mode, exact, or wrapped.
        sampler: the sampler.
        indices: indices of the samples, each of which depends on the seed and its index alone.
        seed: seed of the starting noise and of the steps' noise.
        start: the time to start from, the schedule's last time by default.
        **cond: further inputs of the network, a row for each index.

    Warns:
        UserWarning: as `Sampler.warn_of_ends`.
    """
    sampler.warn_of_ends(denoiser, start)
    noise, given = on_device(denoiser, starting_noise(denoiser, sampler, indices, seed=seed, start=start), cond)
    return sampler.trajectory(denoiser, noise, SampleNoise(seed, "sampling/steps", indices), start=start, **given)


def sample_batches(
    denoiser: DenoiserLike,
    sampler: Sampler,
    *,
    n: int,
    seed: int,
    batch_size: int,
    first: int = 0,
    start: float | None = None,
    **cond: Tensor | None,
) -> Iterator[tuple[range, Step]]:
    """Yields every step of every batch, with the indices of its samples; the arguments are those of `sample`."""
    for begin in range(first, first + n, batch_size):
        indices = range(begin, min(begin + batch_size, first + n))
        rows = slice(indices.start - first, indices.stop - first)
        given = {name: value[rows] for name, value in cond.items() if value is not None}
        for step in trajectory_of(denoiser, sampler, indices, seed=seed, start=start, **given):
            yield indices, step


def sample(
    denoiser: DenoiserLike,
    n: int = 16,
    *,
    sampler: SamplerLike = "ddim",
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    first: int = 0,
    start: float | None = None,
    chunk: int | None = None,
    **cond: Tensor | None,
) -> Tensor:
    """Draws images. Image k depends on the seed and on k alone, not on its batch.

    Args:
        denoiser: for example from `etsdm.load`, in eval mode.
        n: how many.
        sampler: a sampler, its name, or a mapping of its fields with `type`.
        steps: number of steps, where not the sampler's own.
        seed: seed of the starting noise and of the steps' noise.
        batch_size: images in one pass of the network.
        first: index of the first image.
        start: the time to start from, the schedule's last time by default.
        chunk: images that a first stage decodes at a time; a whole batch by default.
        **cond: further inputs of the network, a row for each image: class labels `y`, (n,); small images `low_res`,
            (n, C, H / factor, W / factor) in [-1, 1], for super-resolution.

    Returns:
        float32 on the CPU, (n, C, H, W), in [-1, 1]; of an exact denoiser (n, D), wherever its data lie.

    Raises:
        PartError: n or batch_size is below 1, something in `cond` has not n rows, or the sampler does not suit the schedule.
        RegistryError: there is no such sampler.
    """
    refuse_incomplete(denoiser)
    for name, value in (("n", n), ("batch_size", batch_size)):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise PartError(name, f"found {quoted(value)}; give an integer, 1 or more")
        if value < 1:
            raise PartError(name, f"{value} is too few; give 1 or more")
    for name, rows in cond.items():
        if rows is not None and len(rows) != n:
            raise PartError(name, f"{len(rows)} rows for {n} images; give one for each")
    chosen = resolve_sampler(sampler, steps)
    batches = sample_batches(denoiser, chosen, n=n, seed=seed, batch_size=batch_size, first=first, start=start, **cond)
    return torch.cat([denoiser.decode(step.x, chunk).float().cpu() for _, step in batches if step.i == step.n])
