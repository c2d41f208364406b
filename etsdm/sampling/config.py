"""`Sampling`: what is drawn from a trained denoiser."""

from __future__ import annotations

from pydantic import PositiveInt

from etsdm.registry import Frozen
from etsdm.samplers import DDIM, Sampler

__all__ = ["Sampling"]


class Sampling(Frozen):
    """What is drawn from the trained denoiser.

    Fields: sampler; n, number of images; seed, of their noise, the same in every arm; batch_size, images in one pass.
    """

    sampler: Sampler = DDIM()
    n: PositiveInt = 64
    seed: int = 0
    batch_size: PositiveInt = 64
