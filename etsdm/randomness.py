"""Named random streams: every random number in etsdm comes from here.

A stream is a function of (seed, name, index): `generator(0, "training/noise", 51200)` gives the same numbers on any machine
with the same device type, whatever was drawn before. So sample k does not depend on its batch, and a resumed training
draws what the uninterrupted one would have drawn. Nothing else makes a generator, and the global generators are used only
inside `seeded_global_rng`, for code that cannot be handed one (initialisers, dropout).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["SampleNoise", "generator", "per_sample_normal", "permutation", "seeded_global_rng", "stream_seed"]


def stream_seed(seed: int, name: str, index: int = 0) -> int:
    """A 63-bit seed for one stream, from the hash of (seed, name, index)."""
    digest = hashlib.blake2b(f"{seed}\x1f{name}\x1f{index}".encode(), digest_size=8).digest()
    # torch accepts seeds up to 2^63 - 1 on every device.
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator at the start of the stream (seed, name, index) on a device."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name, index))


def per_sample_normal(seed: int, name: str, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise, one stream an index, so that each row is the same in any company.

    Args:
        seed: the run's seed.
        name: the stream's name.
        indices: sample indices, one a row.
        shape: shape of one row.

    Returns:
        float32 on the CPU, (len(indices), *shape).
    """
    return SampleNoise(seed, name, indices).draw(shape)


def permutation(seed: int, name: str, index: int, n: int) -> Tensor:
    """A random order of 0..n-1, for example the order of one epoch. Returns: int64, (n,)."""
    return torch.randperm(n, generator=generator(seed, name, index))


class SampleNoise:
    """Successive standard normal draws for several samples, each from a stream of its own.

    Args:
        seed: the run's seed.
        name: the stream's name.
        indices: sample indices, one a row of each draw.
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
def seeded_global_rng(seed: int, name: str, index: int = 0) -> Iterator[None]:
    """Runs a block with torch's global generators at the start of a stream, and puts them back afterwards.

    For code that draws from the global generator and cannot be handed one: weight initialisers and dropout.
    """
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(stream_seed(seed, name, index))
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(stream_seed(seed, name, index))
        yield
