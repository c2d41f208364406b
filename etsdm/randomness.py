"""Named random streams, the source of every random number in etsdm.

A stream is a function of (seed, name, index): `generator(0, "training/noise", 51200)` gives the same numbers on any machine with the
same type of device, whatever was drawn before. So sample k does not depend on its batch, and a resumed training draws the numbers of
the uninterrupted one. No other module makes a generator, and the global generators are used only inside `seeded_global_rng`, for code
without a `generator` argument (initialisers, dropout).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["SampleNoise", "generator", "per_image_uniform", "per_sample_normal", "permutation", "seeded_global_rng", "stream_seed"]

UNIFORMS = 4  # numbers of 64 bits that one step of the counter gives


def stream_seed(seed: int, name: str, index: int = 0) -> int:
    """The 63-bit seed of a stream, a hash of (seed, name, index)."""
    digest = hashlib.blake2b(f"{seed}\x1f{name}\x1f{index}".encode(), digest_size=8).digest()
    # torch accepts seeds up to 2^63 - 1 on every device.
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator at the start of the stream (seed, name, index), on a device."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name, index))


def per_sample_normal(seed: int, name: str, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise with one stream per sample, so that a sample's noise does not depend on its batch.

    Args:
        seed: seed of the run.
        name: name of the stream.
        indices: sample indices, one per row.
        shape: shape of one row.

    Returns:
        float32 on the CPU, (len(indices), *shape).
    """
    return SampleNoise(seed, name, indices).draw(shape)


def per_image_uniform(seed: int, name: str, first: int, count: int) -> Tensor:
    """Uniform numbers of images first, first + 1, ..., each a function of the stream and of its image alone.

    They are those of a counter-based generator, Philox (Salmon et al. 2011), whose counter is the number of the image.

    Returns:
        float64 in [0, 1) on the CPU, (count, `UNIFORMS`).
    """
    raw = np.random.Philox(key=stream_seed(seed, name)).advance(first).random_raw(UNIFORMS * count)
    return torch.from_numpy((raw >> 11) * 2.0**-53).view(count, UNIFORMS)


def permutation(seed: int, name: str, index: int, n: int) -> Tensor:
    """A random permutation of 0..n-1, for example the order of one epoch. Returns: int64, (n,)."""
    return torch.randperm(n, generator=generator(seed, name, index))


class SampleNoise:
    """Successive standard normal draws for several samples, one stream per sample.

    Args:
        seed: seed of the run.
        name: name of the stream.
        indices: sample indices, one per row of a draw.
    """

    def __init__(self, seed: int, name: str, indices: Sequence[int]) -> None:
        self._generators = [generator(seed, name, index) for index in indices]

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next draw. Args: shape: shape of one row. Returns: float32 on the CPU, (rows, *shape)."""
        out = torch.empty(len(self._generators), *shape)
        for row, stream in zip(out, self._generators, strict=True):
            torch.randn(tuple(shape), generator=stream, out=row)
        return out


@contextmanager
def seeded_global_rng(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> Iterator[None]:
    """Context in which torch's global generators start at a stream; their states are restored on exit.

    For code without a `generator` argument: weight initialisers and dropout.

    Args:
        seed: seed of the run.
        name: name of the stream.
        index: index of the stream.
        device: the device that draws; its generator is seeded besides the CPU's, those of other GPUs are not touched.
    """
    device = torch.device(device)
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):  # by default torch saves the state of every GPU, which initialises them all
        torch.default_generator.manual_seed(stream_seed(seed, name, index))
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(stream_seed(seed, name, index))
        yield
