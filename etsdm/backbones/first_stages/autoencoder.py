"""`Autoencoder`: base of the convolutional first stages of latent diffusion (Esser et al. 2021, Rombach et al. 2022)."""

from __future__ import annotations

import warnings
from typing import Literal, Self

from pydantic import Field, model_validator

from etsdm.backbones.first_stages.base import FirstStage
from etsdm.registry import field_error
from etsdm.registry.counts import Channels, Depth, ImageSize, Multiplier

__all__ = ["Autoencoder"]


class Autoencoder(FirstStage):
    """Convolutional encoder and decoder.

    Fields have the names of CompVis/latent-diffusion: `embed_dim`, and the entries of its `ddconfig`.

    Attributes:
        resolution: height and width of the images.
        in_channels: channels of the encoder's input.
        out_ch: channels of the decoder's output.
        ch: width of a level with multiplier 1.
        num_res_blocks: residual blocks of a level of the encoder; the decoder has one more.
        attn_resolutions: resolutions of the levels with attention, for images of size `resolution`.
        z_channels: channels between encoder or decoder and the 1x1 convolution at the latent.
        embed_dim: channels of the latent; None for z_channels.
        double_z: whether the encoder predicts mean and log variance; set by each kind of first stage.
        ch_mult: width of each level over `ch`.
        dropout: rate in the residual blocks.
        resamp_with_conv: resampling by convolutions; otherwise by average pooling and nearest neighbour.
        attn_type: "vanilla", or "none" for no attention, in the middle either.
        tanh_out: the decoder ends in a tanh.
        norm_groups: groups of every group norm; 32 in the original.
    """

    resolution: ImageSize
    in_channels: Channels
    out_ch: Channels
    ch: Channels
    num_res_blocks: Depth
    attn_resolutions: tuple[ImageSize, ...]
    z_channels: Channels
    embed_dim: Channels | None = None
    double_z: bool
    ch_mult: tuple[Multiplier, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    resamp_with_conv: bool = True
    attn_type: Literal["vanilla", "none"] = "vanilla"
    tanh_out: bool = False
    norm_groups: Channels = 32

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(mult * self.ch for mult in self.ch_mult)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Height and width of each level."""
        return tuple(self.resolution >> level for level in range(len(self.ch_mult)))

    @property
    def factor(self) -> int:
        return 1 << (len(self.ch_mult) - 1)

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.embed_dim or self.z_channels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.in_channels, self.resolution, self.resolution

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.latent_channels, self.sizes[-1], self.sizes[-1]

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        if self.ch % self.norm_groups:
            message = f"{self.ch} is not a multiple of norm_groups {self.norm_groups}; change one of the two"
            raise field_error("Autoencoder", ("ch",), message, self.ch)
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.resolution % self.factor:
            message = f"{self.resolution} is not a multiple of {self.factor}; give one, or fewer entries of ch_mult"
            raise field_error("Autoencoder", ("resolution",), message, self.resolution)
        if unused := set(self.attn_resolutions) - set(self.sizes):
            message = f"attn_resolutions: no level has the sizes {sorted(unused)}; the sizes are {sorted(self.sizes)}"
            warnings.warn(message, stacklevel=2)
        return self
