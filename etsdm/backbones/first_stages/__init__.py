"""First stages: autoencoders between images and the latents of a latent diffusion model."""

from etsdm.backbones.first_stages.autoencoder import Autoencoder
from etsdm.backbones.first_stages.base import FirstStage, FirstStageNetwork, unit_scale_factor
from etsdm.backbones.first_stages.kl import KLAutoencoder, KLNetwork
from etsdm.backbones.first_stages.vq import VQAutoencoder, VQNetwork

__all__ = [
    "Autoencoder",
    "FirstStage",
    "FirstStageNetwork",
    "KLAutoencoder",
    "KLNetwork",
    "VQAutoencoder",
    "VQNetwork",
    "unit_scale_factor",
]
