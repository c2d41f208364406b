"""Moving averages of the weights, which sampling uses in place of the weights themselves."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from etsdm.registry import Part, emas

__all__ = ["EMA", "PerStepEMA"]


class EMA(Part, family=emas):
    """Exponential moving average of the weights."""

    @abstractmethod
    def build(self, network: nn.Module) -> AveragedModel:
        """Makes the average of a network; its `update_parameters(network)` is called after each step."""


@emas.register("per-step")
class PerStepEMA(EMA):
    """A fixed decay per step: average <- decay average + (1 - decay) weights, from the weights after the first step on.

    In a recipe a bare number is short for it: `ema: 0.9999`.
    """

    decay: float = Field(0.9999, ge=0, lt=1)

    def build(self, network: nn.Module) -> AveragedModel:
        """torch's `AveragedModel` on the network's device."""
        return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
