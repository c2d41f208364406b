"""`AutoencoderNetwork`: encoder and decoder with the 1x1 convolutions at the latent, and checks of their inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from etsdm.backbones.first_stages.autoencoder import Autoencoder
from etsdm.backbones.first_stages.base import FirstStageNetwork
from etsdm.backbones.first_stages.coders import Decoder, Encoder

__all__ = ["AutoencoderNetwork"]


class AutoencoderNetwork(FirstStageNetwork):
    """Base of the networks of an `Autoencoder`."""

    spec: Autoencoder

    def __init__(self, spec: Autoencoder) -> None:
        super().__init__(spec)
        moments = 2 if spec.double_z else 1
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec)
        self.quant_conv = nn.Conv2d(moments * spec.z_channels, moments * spec.latent_channels, kernel_size=1)
        self.post_quant_conv = nn.Conv2d(spec.latent_channels, spec.z_channels, kernel_size=1)

    def moments(self, x: Tensor) -> Tensor:
        channels, factor = self.spec.in_channels, self.spec.factor
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; give (batch, {channels}, height, width)")
        if x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(f"x has height {x.shape[2]} and width {x.shape[3]}; give multiples of {factor}")
        out: Tensor = self.quant_conv(self.encoder(x))
        return out

    def _unscaled(self, z: Tensor) -> Tensor:
        channels = self.spec.latent_channels
        if z.ndim != 4 or z.shape[1] != channels:
            raise ValueError(f"z has shape {tuple(z.shape)}; give (batch, {channels}, height, width)")
        return z / self.spec.scale_factor

    def _chunks(self, z: Tensor, chunk: int | None) -> tuple[Tensor, ...]:
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk: {chunk} images at a time is too few; give 1 or more")
        return torch.split(self._unscaled(z), chunk or len(z))

    def _decoded(self, z: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.post_quant_conv(z))
        return out
