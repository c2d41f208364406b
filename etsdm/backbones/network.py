"""`Network`: what the networks of all backbones have in common.

A network knows its specification, checks what it is called with, and can give up the activations of its blocks and compute them
again in the backward pass (Chen et al. 2016).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from etsdm.backbones.base import Backbone

__all__ = ["Network"]


class Network(nn.Module):
    """Base of networks; a subclass calls its blocks through `_run`.

    Attributes:
        gradient_checkpointing: whether the activations inside a block are computed again in the backward pass. Dropout is the same
            in both passes.
    """

    def __init__(self, spec: Backbone) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, *inputs, use_reentrant=False)
            return out
        out = block(*inputs)
        return out

    def _check(self, x: Tensor, time: Tensor, y: Tensor | None) -> None:
        channels, divisor, classes = self.spec.in_channels, self.spec.divisor, self.spec.num_classes
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; give (batch, {channels}, height, width)")
        if x.shape[2] % divisor or x.shape[3] % divisor:
            raise ValueError(f"x has height {x.shape[2]} and width {x.shape[3]}; give multiples of {divisor}")
        if time.shape != x.shape[:1]:
            raise ValueError(f"time has shape {tuple(time.shape)}; give one value an image, ({x.shape[0]},)")
        if classes is None and y is not None:
            raise ValueError("labels were given to a network without classes; leave out y or set num_classes")
        if classes is not None and y is None:
            raise ValueError(f"labels are missing; give y, one of {classes} classes an image")
        if y is not None and y.shape != x.shape[:1]:
            raise ValueError(f"y has shape {tuple(y.shape)}; give one label an image, ({x.shape[0]},)")

    def _check_own_size(self, x: Tensor) -> None:
        """For networks whose weights belong to one size of image."""
        size = self.spec.image_size
        if x.shape[2:] != (size, size):
            raise ValueError(f"x has height {x.shape[2]} and width {x.shape[3]}; give {size} by {size}, the image_size")
