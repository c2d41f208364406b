"""`Backbone`: the frozen specification of a network F = network(x, time)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor, nn

from etsdm.backbones.summary import Summary, summarize
from etsdm.registry import Part, backbones
from etsdm.registry.counts import Channels, ImageSize, NumClasses

__all__ = ["Backbone"]


class Backbone(Part, family=backbones):
    """Specification of a network; `build` makes it.

    The network is called as `network(x, time, **cond)` with x of shape (B, in_channels, H, W), `time` of shape (B,) in the
    unit of the denoiser's time input, and class labels `y` of shape (B,) where `num_classes` is set. It returns
    (B, out_channels, H, W).

    `num_classes` counts all labels, the null class of classifier-free guidance included, which is the last one.
    """

    in_channels: Channels
    out_channels: Channels
    image_size: ImageSize
    num_classes: NumClasses = None

    @abstractmethod
    def build(self) -> nn.Module:
        """Makes the network on the current default device, with weights drawn from the global generator."""

    def check(self, conditions: Collection[str]) -> None:
        """Checks the backbone against the conditions that its data set offers.

        Args:
            conditions: keyword arguments of the network that a training batch provides, such as `y`, the labels.

        Raises:
            PartError: on the field that asks for another condition.
        """

    def build_on_meta(self) -> nn.Module:
        """Makes the network on the meta device: shapes without weights."""
        with torch.device("meta"):
            return self.build()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return self.in_channels, self.image_size, self.image_size

    @property
    @abstractmethod
    def divisor(self) -> int:
        """Height and width must be multiples of this."""

    def empty_inputs(self, batch: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Uninitialised x, `time` and conditioning inputs of the network, on the current default device."""
        x = torch.empty(batch, *self.shape)
        cond = {} if self.num_classes is None else {"y": torch.empty(batch, dtype=torch.long)}
        return x, torch.empty(batch), cond

    def summary(self, batch: int = 1) -> Summary:
        """Counts parameters, FLOPs and activations in training mode at `image_size`, without allocating weights.

        Args:
            batch: number of images of the activations.

        Raises:
            ValueError: `batch` is not positive.
        """
        if batch < 1:
            raise ValueError(f"batch: {batch} is no number of images; give 1 or more")
        with torch.device("meta"):
            inputs = self.empty_inputs(batch)
        return summarize(self.build_on_meta().train(), *inputs)
