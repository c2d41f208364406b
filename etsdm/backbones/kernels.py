"""Scaled dot-product attention, softmax(q k^T / sqrt(d)) v, by one of several kernels.

sdpa       torch's fused kernels
xformers   memory-efficient attention of xformers, CUDA only
math       the formula, step by step; the only one with a forward-mode derivative, so it replaces the others under forward-mode AD
auto       sdpa, or on CUDA xformers where its kernels load and a measurement at the same shape finds it faster
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["Attention", "Kernel", "attention", "xformers_unavailable_reason"]

Kernel = Literal["auto", "sdpa", "xformers", "math"]

TIMED_CALLS = 5  # of each kernel in a measurement


class Attention(nn.Module):
    """Base of attention layers, with the kernel that they use."""

    kernel: Kernel = "auto"

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention with this layer's kernel; arguments as in the function `attention`."""
        return attention(q, k, v, self.kernel)


def attention(q: Tensor, k: Tensor, v: Tensor, kernel: Kernel = "auto") -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(d)) v in each head.

    Args:
        q: queries, (B, heads, T, d).
        k: keys, (B, heads, S, d).
        v: values, (B, heads, S, d).
        kernel: implementation; under forward-mode AD always `math`.

    Returns:
        (B, heads, T, d).

    Raises:
        RuntimeError: the kernel is xformers, which cannot run here.
    """
    if _in_forward_mode():
        return _math(q, k, v)
    if kernel == "auto":
        kernel = _fastest(q, k)
    return _KERNELS[kernel](q, k, v)


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type == "meta":
        # On the meta device torch's public function is the formula, which saves the weights for the backward pass; kernels on devices
        # do not. Only this operator has shapes, saved tensors and FLOPs of a fused kernel there.
        fused: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]
        return fused
    out: Tensor = F.scaled_dot_product_attention(q, k, v)
    return out


def _math(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # In float32 or wider, as fused kernels accumulate.
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = torch.softmax(q.to(wide) @ k.to(wide).mT * q.shape[-1] ** -0.5, dim=-1)
    return (weights @ v.to(wide)).to(v.dtype)


def _xformers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if reason := xformers_unavailable_reason():
        raise RuntimeError(f"attention: xformers cannot run here: {reason}; use sdpa or auto")
    # xformers' layout is (B, T, heads, d).
    out: Tensor = _xformers_ops().memory_efficient_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    return out.transpose(1, 2)


_KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"sdpa": _sdpa, "xformers": _xformers, "math": _math}


def _in_forward_mode() -> bool:
    # Not by the public `unpack_dual` of q, k and v: it finds no tangent inside torch.func.grad and fails inside torch.func.vmap.
    return forward_ad._current_level >= 0


def _fastest(q: Tensor, k: Tensor) -> Kernel:
    if q.device.type != "cuda" or torch.compiler.is_compiling() or xformers_unavailable_reason():
        return "sdpa"
    return _measured(q.device, q.dtype, tuple(q.shape), tuple(k.shape), q.requires_grad and torch.is_grad_enabled())


@cache
def _measured(device: torch.device, dtype: torch.dtype, queries: tuple[int, ...], keys: tuple[int, ...], backward: bool) -> Kernel:
    q, k, v = (torch.ones(shape, device=device, dtype=dtype, requires_grad=backward) for shape in (queries, keys, keys))

    def milliseconds(call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for turn in range(TIMED_CALLS + 1):
            if turn == 1:  # the first call loads the kernel
                start.record()
            out = call(q, k, v)
            if backward:
                out.sum().backward()
        end.record()
        torch.cuda.synchronize(device)
        elapsed: float = start.elapsed_time(end)
        return elapsed

    with torch.set_grad_enabled(backward):
        return "xformers" if milliseconds(_xformers) < milliseconds(_sdpa) else "sdpa"


@cache
def xformers_unavailable_reason() -> str | None:
    """Reason why xformers' attention cannot run here, None if it can. The first call imports xformers, without its warnings."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    try:
        ops = _xformers_ops()
        q = torch.zeros(1, 8, 1, 64, device="cuda", dtype=torch.float16)
        ops.memory_efficient_attention(q, q, q)
    except (ImportError, OSError, NotImplementedError, RuntimeError) as error:
        # Its message has one line for each kernel that is missing.
        first_line = str(error).strip().partition("\n")[0]
        return f"xformers {version('xformers')} has no kernels for torch {torch.__version__} on this device ({first_line})"
    return None


def _xformers_ops() -> Any:
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns at length about a torch that it was not built for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("xformers.ops")
    finally:
        logger.setLevel(level)
