"""`FirstStage`: the frozen specification of an autoencoder between images and latents.

A latent diffusion model (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models") is trained on
z = s E(x), with the encoder E and a scale factor s for about unit variance, and its samples are decoded as D(z / s). The scale factor is
a field of the specification and is applied inside `encode` and `decode`, so that it is saved with the model and nothing else handles it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from etsdm.registry import Part, first_stages

__all__ = ["FirstStage", "FirstStageNetwork", "unit_scale_factor"]


class FirstStage(Part, family=first_stages):
    """Specification of an autoencoder; `build` makes it.

    Attributes:
        scale_factor: s, which multiplies the encoder's output.
    """

    scale_factor: float = Field(default=1.0, gt=0.0)

    @abstractmethod
    def build(self) -> FirstStageNetwork:
        """Makes the network on the current default device, with weights drawn from the global generator."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """Downsampling factor: height and width of an image over those of its latent; an image's must be multiples of it."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of images; the network also takes other heights and widths."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents of such images."""

    @property
    def moments_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the encoder's output for such images, from which `latents` makes latents."""
        return self.latent_shape

    def latents(self, moments: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of the encoder's output, as `FirstStageNetwork.encode` makes them; no weights are needed.

        Args:
            moments: (B, *moments_shape), as from `FirstStageNetwork.moments`.
            generator: as for `encode`.

        Returns:
            (B, *latent_shape), times the scale factor.
        """
        return self.scale_factor * moments


class FirstStageNetwork(nn.Module, ABC):
    """Network of a `FirstStage`."""

    def __init__(self, spec: FirstStage) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def moments(self, x: Tensor) -> Tensor:
        """Encodes images to what a latent is made of: the latents without the scale factor, or their means and log variances.

        Args:
            x: as for `encode`.

        Returns:
            (B, channels of the specification's `moments_shape`, H / factor, W / factor).

        Raises:
            ValueError: the shape does not fit.
        """

    def encode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Encodes images to latents.

        Args:
            x: images, (B, C, H, W), in [-1, 1], H and W multiples of the specification's `factor`.
            generator: samples the latents, if the encoder predicts a distribution; without it they are the distribution's means.

        Returns:
            (B, latent channels, H / factor, W / factor), times the scale factor.

        Raises:
            ValueError: the shape does not fit.
        """
        return self.spec.latents(self.moments(x), generator)

    @abstractmethod
    def decode(self, z: Tensor, *, chunk: int | None = None) -> Tensor:
        """Decodes latents to images.

        Args:
            z: latents as from `encode`, (B, latent channels, h, w).
            chunk: images to decode at a time, for less memory; None for all.

        Returns:
            Images, (B, C, h * factor, w * factor), about in [-1, 1].

        Raises:
            ValueError: the shape does not fit, or `chunk` is not positive.
        """


@torch.no_grad()
def unit_scale_factor(network: FirstStageNetwork, images: Tensor, generator: torch.Generator | None = None) -> float:
    """Measures the scale factor that normalises the latents of images to a standard deviation of 1 (Rombach et al. 2022, appendix G).

    Latent diffusion on `kl` stages measures it at the first batch of training; here it is measured beforehand and set in the recipe as
    `model.first_stage.scale_factor`.

    Args:
        network: with its published weights and any scale factor.
        images: (B, C, H, W) in [-1, 1].
        generator: samples the latents, if the encoder predicts a distribution.
    """
    latents = network.encode(images, generator=generator).double() / network.spec.scale_factor
    return 1 / float(latents.std())
