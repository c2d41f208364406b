"""`Network`: base of etsdm's networks, with checks of the inputs and gradient checkpointing of blocks (Chen et al. 2016)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from etsdm.backbones.base import Backbone

__all__ = ["Network"]


class Network(nn.Module):
    """Base of networks; a subclass computes in `_output`, and calls its blocks through `_run`.

    Attributes:
        fixed_size: whether images must have the specification's `image_size`.
        gradient_checkpointing: whether the backward pass recomputes the activations inside a block, with the same dropout.
    """

    fixed_size: ClassVar[bool] = False

    def __init__(self, spec: Backbone) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None) -> Tensor:
        """Evaluates the network.

        Args:
            x: images, (B, in_channels, H, W), H and W multiples of the specification's `divisor`, or its `image_size` under
                `fixed_size`.
            time: time input, any finite values, (B,).
            y: class labels, (B,), if and only if `num_classes` is set.

        Returns:
            (B, out_channels, H, W), in the dtype of x.

        Raises:
            ValueError: a shape does not fit, or a label is missing or not expected.
        """
        self._check(x, time, y)
        return self._output(x, time, y).to(x.dtype)

    def _output(self, x: Tensor, time: Tensor, y: Tensor | None) -> Tensor:
        """Evaluates the network on checked arguments."""
        raise NotImplementedError

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, *inputs, use_reentrant=False)
            return out
        out = block(*inputs)
        return out

    def _check(self, x: Tensor, time: Tensor, y: Tensor | None) -> None:
        check_inputs(self.spec, x, time, y, fixed_size=self.fixed_size)


def check_inputs(spec: Backbone, x: Tensor, time: Tensor, y: Tensor | None, *, fixed_size: bool = False) -> None:
    """Raises ValueError if the arguments of a network do not fit its specification. Args: fixed_size: takes `image_size` alone."""
    channels, divisor, classes = spec.in_channels, spec.divisor, spec.num_classes
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x has shape {tuple(x.shape)}; give (batch, {channels}, height, width)")
    if x.shape[2] % divisor or x.shape[3] % divisor:
        raise ValueError(f"x has height {x.shape[2]} and width {x.shape[3]}; give multiples of {divisor}")
    if fixed_size and x.shape[2:] != (spec.image_size, spec.image_size):
        size = f"{spec.image_size} by {spec.image_size}"
        raise ValueError(f"x has height {x.shape[2]} and width {x.shape[3]}; give {size}, the image_size")
    if time.shape != x.shape[:1]:
        raise ValueError(f"time has shape {tuple(time.shape)}; give one value an image, ({x.shape[0]},)")
    if classes is None and y is not None:
        raise ValueError("labels were given to a network without classes; leave out y or set num_classes")
    if classes is not None and y is None:
        raise ValueError(f"labels are missing; give y, one of {classes} classes an image")
    if y is not None and classes is not None:
        _check_labels(y, x.shape[0], classes)


def _check_labels(y: Any, count: int, classes: int) -> None:
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        found = str(y.dtype) if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(f"y is {found}; give a tensor of integers, one label an image, ({count},)")
    if y.ndim != 1 or y.shape[0] != count:
        raise ValueError(f"y has shape {tuple(y.shape)}; give one label an image, ({count},)")
    if y.is_cpu and y.numel() and not torch.compiler.is_compiling():  # elsewhere it would synchronise
        smallest, largest = (value.item() for value in torch.aminmax(y))
        if smallest < 0 or largest >= classes:
            wrong = smallest if smallest < 0 else largest
            raise ValueError(f"y has the label {wrong}; give labels from 0 to {classes - 1}, the null class included")
