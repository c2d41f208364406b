"""Benchmark of attention kernels: `python benchmarks/backbones.py --attention sdpa,xformers,math`.

Prints the error of output and gradients against the formula in float64, relative to their norm, and images per second.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from functools import partial
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from turns import in_turns

from etsdm.backbones.kernels import Kernel, attention, xformers_unavailable_reason

HEADS, HEAD_CHANNELS, TOKENS = 8, 64, (64, 256, 1024)


def measure_kernels(options: Namespace) -> dict[str, Any]:
    kernels, skipped = [], {}
    for kernel in options.attention.split(","):
        if kernel not in get_args(Kernel):
            raise SystemExit(f"--attention: {kernel!r} is no kernel; give one or more of {', '.join(get_args(Kernel))}")
        reason = xformers_unavailable_reason() if kernel == "xformers" else None
        if reason:
            skipped[kernel] = reason
        else:
            kernels.append(kernel)
    rows = [row for tokens in TOKENS for row in rows_at(kernels, tokens, options)]
    return {"heads": HEADS, "head_channels": HEAD_CHANNELS, "kernels": rows, "skipped": skipped}


def rows_at(kernels: list[Kernel], tokens: int, options: Namespace) -> list[dict[str, Any]]:
    shape = options.batch, HEADS, tokens, HEAD_CHANNELS
    inputs = [torch.randn(shape, device=options.device, dtype=getattr(torch, options.dtype), requires_grad=True) for _ in range(3)]
    weights = torch.randn_like(inputs[0])
    exact = forward_backward("math", [part.detach().double().requires_grad_() for part in inputs], weights.double())
    forward = in_turns({kernel: partial(forward_only, kernel, inputs) for kernel in kernels}, options)
    backward = in_turns({kernel: partial(forward_backward, kernel, inputs, weights) for kernel in kernels}, options)
    rows = []
    for kernel in kernels:
        found = forward_backward(kernel, inputs, weights)
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
        speeds = [options.batch / statistics.median(taken[kernel]) for taken in (forward, backward)]
        row = {"kernel": kernel, "tokens": tokens, "error": errors[0], "gradient_error": max(errors[1:])}
        rows.append({**row, "forward_images_per_s": speeds[0], "forward_backward_images_per_s": speeds[1]})
    return rows


@torch.no_grad()
def forward_only(kernel: Kernel, inputs: list[Tensor]) -> Tensor:
    return attention(*inputs, kernel)


def forward_backward(kernel: Kernel, inputs: list[Tensor], weights: Tensor) -> tuple[Tensor, ...]:
    out = attention(*inputs, kernel)
    return (out.detach(), *torch.autograd.grad(out, inputs, weights))


def show_kernels(found: dict[str, Any], options: Namespace) -> None:
    table = Table(title=f"attention, {HEADS} heads of {HEAD_CHANNELS} channels, batch {options.batch}", title_justify="left")
    for heading in ("tokens", "kernel", "error", "of gradients", "images/s forward", "images/s forward and backward"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    for row in found["kernels"]:
        speeds = f"{row['forward_images_per_s']:,.0f}", f"{row['forward_backward_images_per_s']:,.0f}"
        table.add_row(str(row["tokens"]), row["kernel"], f"{row['error']:.1e}", f"{row['gradient_error']:.1e}", *speeds)
    Console().print(table)
    for kernel, why in found["skipped"].items():
        Console().print(f"{kernel} is left out: {why}")
