"""`Backbone`: the frozen specification of a network that maps (x, time input) to F."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from etsdm.registry import Part, backbones

__all__ = ["Backbone"]


class Backbone(Part, family=backbones):
    """What a network is made of; `build` makes it.

    The network is called as `network(x, time, **cond)` with x of shape (B, in_channels, H, W), `time` of shape (B,) in the
    unit of the denoiser's time input, and `y`, class labels of shape (B,), where `num_classes` is set. It returns
    (B, out_channels, H, W).
    """

    in_channels: int
    out_channels: int
    image_size: int
    num_classes: int | None = None

    @abstractmethod
    def build(self) -> nn.Module:
        """Makes the network on the current default device, with weights drawn from the global generator."""

    @property
    @abstractmethod
    def divisor(self) -> int:
        """Height and width must be multiples of this."""
