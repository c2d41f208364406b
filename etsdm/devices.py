"""The device of a process."""

from __future__ import annotations

import os
from typing import Literal

import torch

from etsdm.errors import RecipeError

__all__ = ["resolve_device"]


def resolve_device(wanted: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The device for a setting of `compute.device`.

    Args:
        wanted: `cpu`, `cuda`, or `auto` for a GPU if there is one, else the CPU.

    Returns:
        The CPU or one GPU: the first, or under torchrun number `LOCAL_RANK`, modulo the number of visible GPUs, because some launchers
        make a single one visible to each process.

    Raises:
        RecipeError: `cuda` without a GPU.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecipeError("compute.device: torch finds no GPU for cuda here (see `etsdm doctor`); give auto or cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
