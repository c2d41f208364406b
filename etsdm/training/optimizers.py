"""Optimizers: torch's, in their fused form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat
from torch import nn

from etsdm.registry import Part, optimizers

__all__ = ["Adam", "AdamW", "Optimizer"]

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Part, family=optimizers):
    """The update rule of the weights."""

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """Makes the optimizer of a training.

        Args:
            parameters: the weights to update, on their device.
            learning_rate: peak learning rate; the trainer sets the current one before each step.
        """


@optimizers.register("adam")
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015).

    Attributes:
        betas: decay rates per step of the running means of the gradient and of its square.
        weight_decay: factor of the weights added to the gradient, an L2 penalty.
    """

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0

    def build(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
        """`torch.optim.Adam`."""
        return torch.optim.Adam(parameters, lr=learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True)


@optimizers.register("adamw")
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Attributes:
        betas: decay rates per step of the running means of the gradient and of its square.
        weight_decay: share of the weights, times the learning rate, subtracted in each step.
    """

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0

    def build(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
        """`torch.optim.AdamW`."""
        return torch.optim.AdamW(parameters, lr=learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True)
