"""Tensors that are kept between calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["plain_tensors"]


@contextmanager
def plain_tensors() -> Iterator[None]:
    """What is made inside is an ordinary tensor on the CPU, whatever surrounds the call.

    A table may be made at the first call under torch.func.jvp or with another default device; without this it would belong to
    that call, and could not be copied.
    """
    with torch._C._DisableFuncTorch(), torch.device("cpu"):
        yield
