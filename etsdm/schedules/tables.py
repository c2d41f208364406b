"""Construction of tensors that are cached between calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["plain_tensors"]


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Context in which new tensors are ordinary CPU tensors, outside any torch.func transform or default device of the caller.

    A table that is made at the first call, under torch.func.jvp for instance, would otherwise belong to that transform and could not
    be copied.
    """
    # Private, because torch has no public way out of a transform; torch.func.jvp at a first call is in the tests of schedules.
    with torch._C._DisableFuncTorch(), torch.device("cpu"):
        yield
