"""`Backbone`: the frozen specification of a network that maps (x, time input) to F."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from etsdm.registry import Part, backbones

if TYPE_CHECKING:
    from etsdm.backbones.summary import Summary

__all__ = ["Backbone"]


class Backbone(Part, family=backbones):
    """What a network is made of; `build` makes it.

    The network is called as `network(x, time, **cond)` with x of shape (B, in_channels, H, W), `time` of shape (B,) in the
    unit of the denoiser's time input, and `y`, class labels of shape (B,), where `num_classes` is set. It returns
    (B, out_channels, H, W).

    `num_classes` counts all labels. Where one of them means "no class", as guidance needs it, that is the last.
    """

    in_channels: int
    out_channels: int
    image_size: int
    num_classes: int | None = None

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

    @property
    @abstractmethod
    def divisor(self) -> int:
        """Height and width must be multiples of this."""

    def empty_inputs(self, batch: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """x, `time` and all that the network takes besides, uninitialised, on the current default device."""
        x = torch.empty(batch, self.in_channels, self.image_size, self.image_size)
        cond = {} if self.num_classes is None else {"y": torch.empty(batch, dtype=torch.long)}
        return x, torch.empty(batch), cond

    def summary(self, batch: int = 1) -> Summary:
        """Parameters, operations and activations of the network, counted without allocating its weights (`summarize`).

        Args:
            batch: number of images that the activations are for.

        Raises:
            ValueError: `batch` is not positive.
        """
        from etsdm.backbones.summary import summarize  # on demand, because torch's counter is slow to import

        return summarize(self, batch)
