"""`kl`: a variational autoencoder with a small weight on the KL divergence from a standard normal (Rombach et al. 2022).

moments(x) = (mean, log variance),  z = s (mean + exp(log variance / 2) n),  n ~ N(0, I)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etsdm.backbones.first_stages.autoencoder import Autoencoder
from etsdm.backbones.first_stages.network import AutoencoderNetwork
from etsdm.backbones.first_stages.presets import KL_PRESETS
from etsdm.registry import first_stages

__all__ = ["KLAutoencoder", "KLNetwork"]

LOG_VARIANCE_RANGE = (-30.0, 20.0)  # values beyond are clamped, as in the original


@first_stages.register("kl")
class KLAutoencoder(Autoencoder):
    """Variational autoencoder with normal latents, CompVis' `AutoencoderKL`."""

    double_z: Literal[True] = True

    def build(self) -> KLNetwork:
        return KLNetwork(self)

    @property
    def moments_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.latent_shape
        return 2 * channels, height, width

    def latents(self, moments: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, log_variance = moments.chunk(2, dim=1)
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
            mean = mean + noise * (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
        return self.scale_factor * mean


for name, (description, fields) in KL_PRESETS.items():
    first_stages.preset(name, KLAutoencoder, description, **fields)


class KLNetwork(AutoencoderNetwork):
    """Network of a `KLAutoencoder`."""

    def decode(self, z: Tensor, *, chunk: int | None = None) -> Tensor:
        return torch.cat([self._decoded(part) for part in self._chunks(z, chunk)])
