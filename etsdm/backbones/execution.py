"""How a network is run, which changes neither its weights nor, beyond rounding, its output."""

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
    """How networks are run.

    Attributes:
        attention: kernel of the attention layers.
        gradient_checkpointing: computes the activations inside each block again in the backward pass, for less memory.
        channels_last: weights and images in memory with channels innermost, which convolutions on tensor cores prefer.
        compile: compiles the network at its first call, for the device that it is on when it is set up.
    """

    attention: Kernel = "auto"
    gradient_checkpointing: bool = False
    channels_last: bool = False
    compile: bool = False

    def prepare(self, network: N) -> N:
        """Sets a network up, in place; its state dict keeps its keys.

        Args:
            network: what a backbone builds.

        Returns:
            The network.
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
            # For a CPU the compiler would put channels innermost whatever is asked for, where its loops for group norms are slow.
            on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
            network.compile(options={"layout_optimization": False} if on_cpu else None)
        return network
