"""Size of a network's weights, counted on the meta device before the network is made."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

from etsdm.errors import PartError

if TYPE_CHECKING:
    from etsdm.backbones.base import Backbone
    from etsdm.backbones.first_stages.base import FirstStage

__all__ = ["MAX_WEIGHTS", "check_fits_memory", "check_weights", "machine_memory"]

MAX_WEIGHTS = 10**12  # bytes, a hundred times those of the largest published diffusion models
MAX_TENSORS = 6000  # of a network; the largest published ones have 2,000
FLOAT32_BYTES = 4


class _TooLargeError(Exception):
    """A network that is not made further."""


def check_weights(spec: Backbone | FirstStage, field: str) -> None:
    """Checks that the weights of a network are not too large for any machine.

    Args:
        spec: of the network.
        field: its field, for the message.

    Raises:
        PartError: they are more than 1 TB, or too many tensors.
    """
    if _weights(spec) is None:
        raise PartError(field, f"the network has more than {MAX_TENSORS:,} tensors of weights, or 1 TB; give fewer blocks or channels")


def check_fits_memory(spec: Backbone | FirstStage, field: str) -> None:
    """Checks that the weights of a network fit into this machine's memory. Arguments and errors are those of `check_weights`."""
    check_weights(spec, field)
    weights, memory = _weights(spec), machine_memory()
    if weights is not None and memory is not None and weights > memory:
        message = f"{weights / 1e9:,.0f} GB of weights in float32, and this machine has {memory / 1e9:,.0f} GB of memory"
        raise PartError(field, f"the network has {message}; give fewer blocks or channels, or use a larger machine")


@lru_cache(maxsize=32)
def _weights(spec: Any) -> int | None:
    """Bytes of parameters and buffers in float32; None where they are too many."""
    total = tensors = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal total, tensors
        if tensor is not None and tensor.is_meta:
            total += FLOAT32_BYTES * tensor.numel()
            tensors += 1
        if total > MAX_WEIGHTS or tensors > MAX_TENSORS:
            raise _TooLargeError

    hooks = register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)
    try:
        with torch.device("meta"):
            spec.build()
    except _TooLargeError:
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return total


def machine_memory() -> int | None:
    """Bytes of this machine's memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
