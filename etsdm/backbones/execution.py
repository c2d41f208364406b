"""Execution options of a network: attention kernel, gradient checkpointing, memory layout, compilation."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from torch import nn

from etsdm.backbones.external import ExternalNetwork
from etsdm.backbones.kernels import Attention, Kernel
from etsdm.backbones.network import Network
from etsdm.registry import Frozen

__all__ = ["Execution"]

N = TypeVar("N", bound=nn.Module)


class Execution(Frozen):
    """Execution options of networks. None changes weights or keys, nor the output beyond rounding.

    Attributes:
        attention: kernel of the attention layers.
        gradient_checkpointing: recomputes the activations inside each block in the backward pass, for less memory.
        channels_last: memory layout of weights and images with channels innermost, which tensor cores prefer.
        compile: compiles the network at its first call, for the device that it is on when it is prepared.
    """

    attention: Kernel = "auto"
    gradient_checkpointing: bool = False
    channels_last: bool = False
    compile: bool = False

    def prepare(self, network: N) -> N:
        """Applies the options to a network, in place.

        Args:
            network: built by a backbone.

        Returns:
            The network.

        Warns:
            UserWarning: an option has no effect on an external network.
        """
        if isinstance(network, ExternalNetwork) and (self.attention != "auto" or self.gradient_checkpointing):
            message = f"attention and gradient_checkpointing have no effect on {type(network.network).__name__}; set them on the network"
            warnings.warn(message, stacklevel=2)
        for module in network.modules():
            if isinstance(module, Attention):
                module.kernel = self.attention
            if isinstance(module, Network):
                module.gradient_checkpointing = self.gradient_checkpointing
        network.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)
        if self.compile:
            network.compile(options=compiler_options(network))
        return network


def compiler_options(network: nn.Module) -> dict[str, str | int | bool] | None:
    """Options of torch.compile for a network where it is now, None for torch's defaults."""
    # On a CPU the compiler would always put channels innermost, where its loops for group norms are slow.
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    return {"layout_optimization": False} if on_cpu else None
