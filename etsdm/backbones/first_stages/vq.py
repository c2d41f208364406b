"""`vq`: a first stage with vector quantisation: each pixel of the latent is replaced by the nearest entry of a codebook (van den Oord et
al. 2017, Esser et al. 2021).

Diffusion models work on the latents before quantisation, which is the decoder's first layer (Rombach et al. 2022):

    z = s E(x),  code(z) = argmin_k |z / s - e_k|^2,  image = D(e_code)
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from etsdm.backbones.first_stages.autoencoder import Autoencoder
from etsdm.backbones.first_stages.network import AutoencoderNetwork
from etsdm.backbones.first_stages.presets import VQ_PRESETS
from etsdm.registry import first_stages
from etsdm.registry.counts import Classes

__all__ = ["Codebook", "VQAutoencoder", "VQNetwork"]


@first_stages.register("vq")
class VQAutoencoder(Autoencoder):
    """Autoencoder with a codebook, CompVis' `VQModelInterface`.

    The fields are those of `Autoencoder`, and:

    Attributes:
        n_embed: number of entries of the codebook.
    """

    double_z: Literal[False] = False
    n_embed: Classes

    def build(self) -> VQNetwork:
        return VQNetwork(self)


for name, (description, fields) in VQ_PRESETS.items():
    first_stages.preset(name, VQAutoencoder, description, **fields)


class Codebook(nn.Module):
    """Codebook; entry e_k is row k of `embedding`.

    Args:
        entries: number of entries.
        channels: channels of an entry.
    """

    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, channels)
        nn.init.uniform_(self.embedding.weight, -1.0 / entries, 1.0 / entries)

    def codes(self, z: Tensor) -> Tensor:
        """Index of the nearest entry to each pixel. Args: z: (B, C, h, w). Returns: int64, (B, h, w)."""
        # In bfloat16, also under autocast, distances to close entries would be equal.
        kind = z.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            pixels = z.permute(0, 2, 3, 1).to(torch.promote_types(z.dtype, torch.float32))
            entries = self.embedding.weight.to(pixels.dtype)
            # |z - e|^2 expanded, in the order of operations of the original.
            distances = pixels.square().sum(-1, keepdim=True) + entries.square().sum(1) - 2 * pixels @ entries.T
            return distances.argmin(-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Entries of codes. Args: codes: (B, h, w). Returns: (B, C, h, w)."""
        entries: Tensor = self.embedding(codes)
        return entries.permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> Tensor:
        """Quantises, with the straight-through gradient. Args: z: (B, C, h, w). Returns: the same shape."""
        return z + (self.lookup(self.codes(z)).to(z.dtype) - z).detach()


class VQNetwork(AutoencoderNetwork):
    """Network of a `VQAutoencoder`."""

    def __init__(self, spec: VQAutoencoder) -> None:
        super().__init__(spec)
        self.quantize = Codebook(spec.n_embed, spec.latent_channels)

    def decode(self, z: Tensor, *, chunk: int | None = None, force_not_quantize: bool = False) -> Tensor:
        """Decodes latents to images.

        Args:
            z: latents as from `encode`, (B, latent channels, h, w).
            chunk: images to decode at a time, for less memory; None for all.
            force_not_quantize: decodes z without quantisation.

        Returns:
            Images, (B, C, h * factor, w * factor), about in [-1, 1].

        Raises:
            ValueError: the shape does not fit, or `chunk` is not positive.
        """
        parts = self._chunks(z, chunk)
        return torch.cat([self._decoded(part if force_not_quantize else self.quantize(part)) for part in parts])

    def codes(self, z: Tensor) -> Tensor:
        """Codes of latents. Args: z: (B, latent channels, h, w). Returns: int64, (B, h, w)."""
        return self.quantize.codes(self._unscaled(z))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Decodes codes to images. Args: codes: (B, h, w), 0 to n_embed - 1. Returns: (B, C, h * factor, w * factor)."""
        if codes.ndim != 3:
            raise ValueError(f"codes has shape {tuple(codes.shape)}; give (batch, height, width)")
        return self._decoded(self.quantize.lookup(codes))
