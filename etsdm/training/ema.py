"""Moving averages of the weights, which sampling uses in place of the weights themselves."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from etsdm.registry import Part, emas

__all__ = ["EMA", "PerStepEMA"]


Tensors = tuple[Tensor, ...] | list[Tensor]


class EMA(Part, family=emas):
    """Exponential moving average of the weights."""

    @abstractmethod
    def build(self, network: nn.Module) -> AveragedModel:
        """Makes the average of a network; its `update_parameters(network)` is called after each step."""


@emas.register("per-step")
class PerStepEMA(EMA):
    """A decay per step: average <- d average + (1 - d) weights, from the weights after the first step on.

    The half-life of the average rises with the training, so that it never holds the random weights of the beginning, and the average of
    a short training is close to its last weights: after k steps d is the smaller of `decay` and 2^(-1 / (rampup_ratio k)), as
    `ema_rampup_ratio` does in Karras et al. 2022. In a recipe a bare number is short for the decay: `ema: 0.9999`.

    Attributes:
        decay: of a step, in the end.
        rampup_ratio: the longest half-life, as a share of the images seen so far; null for `decay` from the first step on.
    """

    decay: float = Field(0.9999, ge=0, lt=1)
    rampup_ratio: PositiveFloat | None = 0.05

    def decay_after(self, steps: int) -> float:
        """The decay with which an average of so many steps takes the weights of the next."""
        return self.decay if self.rampup_ratio is None else min(self.decay, 0.5 ** (1 / (self.rampup_ratio * (steps + 1))))

    def build(self, network: nn.Module) -> AveragedModel:
        """torch's `AveragedModel` on the network's device."""

        def update(average: Tensors, weights: Tensors, steps: Tensor | int) -> None:
            get_ema_multi_avg_fn(self.decay_after(int(steps)))(average, weights, steps)

        return AveragedModel(network, multi_avg_fn=update)
