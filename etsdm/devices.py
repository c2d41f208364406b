"""The device of a process."""

from __future__ import annotations

import os
from typing import Literal

import torch

from etsdm.errors import PartError, RecipeError

__all__ = ["resolve_device", "usable_device"]


def usable_device(device: torch.device | str) -> torch.device:
    """A device on which tensors can be made. Raises: PartError if torch knows no such device, or there is none here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise PartError("device", f"{str(device)!r}: {reason}; give cpu, or cuda where `etsdm doctor` lists a GPU") from None


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
