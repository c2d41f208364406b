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


for name, (description, fields) in KL_PRESETS.items():
    first_stages.preset(name, KLAutoencoder, description, **fields)


class KLNetwork(AutoencoderNetwork):
    """Network of a `KLAutoencoder`."""

    def moments(self, x: Tensor) -> Tensor:
        """Means and log variances of the latents, without the scale factor, not clamped.

        Args:
            x: images, (B, C, H, W), in [-1, 1].

        Returns:
            (B, 2 * latent channels, h, w), means first.

        Raises:
            ValueError: the shape does not fit.
        """
        return self._encoded(x)

    def encode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        mean, log_variance = self.moments(x).chunk(2, dim=1)
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
            mean = mean + noise * (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
        return self.spec.scale_factor * mean

    def decode(self, z: Tensor, *, chunk: int | None = None) -> Tensor:
        return torch.cat([self._decoded(part) for part in self._chunks(z, chunk)])
