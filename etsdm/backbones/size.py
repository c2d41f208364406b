"""Size of a network's weights, counted on the meta device before the network is made."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

from etsdm.errors import PartError
from etsdm.storage.regular import read_regular

if TYPE_CHECKING:
    from etsdm.backbones.base import Backbone
    from etsdm.backbones.first_stages.base import FirstStage

__all__ = ["MAX_WEIGHTS", "check_fits_memory", "check_weights", "machine_memory"]

MAX_WEIGHTS = 10**12  # bytes, a hundred times those of the largest published diffusion models
MAX_TENSORS = 6000  # of a network; the largest published ones have 2,000
FLOAT32_BYTES = 4
MAX_SYSTEM_FILE = 2**16  # bytes of a file about control groups, which has a line or a few


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
    """Checks that the weights of a network fit into memory, of the machine or container. Arguments and errors: as `check_weights`."""
    check_weights(spec, field)
    weights, memory = _weights(spec), machine_memory()
    if weights is not None and memory is not None and weights > memory:
        message = f"{weights / 1e9:,.0f} GB of weights in float32, and this machine or container has {memory / 1e9:,.3g} GB of memory"
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
    """Bytes of memory that this process may use: the machine's, or less in a container; None where the system does not say."""
    limits = [limit for limit in (_physical_memory(), _cgroup_limit()) if limit is not None]
    return min(limits, default=None)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_limit(root: Path = Path("/")) -> int | None:
    """The lowest limit of the control groups that this process is in, None without one.

    A line of /proc/self/cgroup is `0::/group` of version 2 and `n:memory:/group` of version 1; the groups around a group limit it, too. In
    a container the group may be named as outside it, while its files lie at the root.
    """
    try:
        lines = read_regular(root / "proc/self/cgroup", MAX_SYSTEM_FILE).decode(errors="replace").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            place, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            place, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inside = PurePosixPath(group.lstrip("/"))
        found = [_number_in(place / around / name) for around in (inside, *inside.parents)]
        limits += [limit for limit in found if limit is not None]
    return min(limits, default=None)


def _number_in(file: Path) -> int | None:
    """The number in a file of the system; None without one, as for `max`."""
    try:
        text = read_regular(file, MAX_SYSTEM_FILE).decode().strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() else None
