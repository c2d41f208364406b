"""Which device this process computes on."""

from __future__ import annotations

import os
from typing import Literal

import torch

from etsdm.errors import RecipeError

__all__ = ["resolve_device"]


def resolve_device(wanted: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The device that is asked for.

    Args:
        wanted: `auto` is a GPU where there is one, else the CPU.

    Returns:
        The CPU, or one GPU. Of several it is the first, or under torchrun the one of this process, by `LOCAL_RANK`; that goes round
        where a launcher shows each process its own GPU alone.

    Raises:
        RecipeError: a GPU is asked for and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecipeError("compute.device: torch finds no GPU for cuda here (see `etsdm doctor`); give auto or cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
