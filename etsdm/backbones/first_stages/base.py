"""`FirstStage`: the frozen specification of an autoencoder between images and latents.

A latent diffusion model (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models") is trained on
z = s E(x), where E is the encoder and s the scale factor that gives latents about unit variance, and shows D(z / s), where D is the
decoder. The scale factor is a field of the specification and is applied inside `encode` and `decode`, so that it is stored with the
model and nothing else has to know it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from etsdm.registry import Part, first_stages

__all__ = ["FirstStage", "FirstStageNetwork", "unit_scale_factor"]


class FirstStage(Part, family=first_stages):
    """What an autoencoder is made of; `build` makes it.

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
        """Height and width of an image over those of its latent; an image's must be multiples of it."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that it is meant for; it takes other heights and widths."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latent of such an image."""


class FirstStageNetwork(nn.Module, ABC):
    """The network of a `FirstStage`."""

    def __init__(self, spec: FirstStage) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def encode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The latents that a diffusion model is trained on.

        Args:
            x: images, (B, C, H, W), in [-1, 1], H and W multiples of the specification's `factor`.
            generator: draws the latents, where the encoder gives a distribution; without it they are the distribution's means.

        Returns:
            (B, latent channels, H / factor, W / factor), times the scale factor.

        Raises:
            ValueError: the shape does not fit.
        """

    @abstractmethod
    def decode(self, z: Tensor, *, chunk: int | None = None) -> Tensor:
        """The images of latents.

        Args:
            z: latents as `encode` gives them, (B, latent channels, h, w).
            chunk: images to decode at a time, for less memory; None for all.

        Returns:
            Images, (B, C, h * factor, w * factor), about in [-1, 1].

        Raises:
            ValueError: the shape does not fit, or `chunk` is not positive.
        """


@torch.no_grad()
def unit_scale_factor(network: FirstStageNetwork, images: Tensor, generator: torch.Generator | None = None) -> float:
    """The scale factor that gives the latents of these images a standard deviation of 1 (Rombach et al. 2022, appendix G).

    Latent diffusion on `kl` stages measures it at the first batch of training; here it is measured before and goes into the recipe
    as `model.first_stage.scale_factor`.

    Args:
        network: with its published weights, whatever its own scale factor is.
        images: (B, C, H, W) in [-1, 1].
        generator: draws the latents, where the encoder gives a distribution.
    """
    latents = network.encode(images, generator=generator).double() / network.spec.scale_factor
    return 1 / float(latents.std())
