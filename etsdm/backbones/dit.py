"""`dit`: the diffusion transformer with adaLN-Zero (Peebles and Xie 2023, "Scalable Diffusion Models with Transformers").

The network is in `dit_network`, which imports timm, at the first `build`.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import nn

from etsdm.backbones.base import Backbone
from etsdm.registry import backbones, field_error
from etsdm.registry.counts import Channels, Depth, ImageSize, NumClasses, Ratio

__all__ = ["DiT"]


@backbones.register("dit")
class DiT(Backbone):
    """Diffusion transformer with adaLN-Zero.

    Attributes:
        image_size: height and width of the images, the only size that it takes.
        in_channels: channels of x.
        out_channels: channels of the output; twice `in_channels` with a learned variance.
        patch_size: height and width of a patch; a token is a patch.
        hidden_size: channels of a token.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: width of a block's hidden layer over `hidden_size`.
        num_classes: number of labels, the null class included, or None for an unconditional network; in a recipe `auto` for those of
            the data, and a null class where training.label_dropout is above 0.
        dropout: rate after attention and in the hidden layer.
        drop_path: stochastic depth rate of the last block; it rises linearly from 0 in the first.
    """

    image_size: ImageSize
    in_channels: Channels
    out_channels: Channels
    patch_size: ImageSize
    hidden_size: Channels
    depth: Depth
    num_heads: Channels
    mlp_ratio: Ratio = 4.0
    num_classes: NumClasses = None
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def divisor(self) -> int:
        return self.patch_size

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.image_size % self.patch_size:
            message = f"{self.patch_size} does not divide image_size {self.image_size}; give a divisor"
            raise field_error("DiT", ("patch_size",), message, self.patch_size)
        if self.hidden_size % 4:
            message = f"{self.hidden_size} is not a multiple of 4, a sine and a cosine of row and column; give one"
            raise field_error("DiT", ("hidden_size",), message, self.hidden_size)
        if self.hidden_size % self.num_heads:
            message = f"{self.num_heads} does not divide hidden_size {self.hidden_size}; give a divisor"
            raise field_error("DiT", ("num_heads",), message, self.num_heads)
        if int(self.hidden_size * self.mlp_ratio) == 0:
            message = f"{self.mlp_ratio:g} leaves no channel of hidden_size {self.hidden_size}; give a larger one"
            raise field_error("DiT", ("mlp_ratio",), message, self.mlp_ratio)
        return self

    def build(self) -> nn.Module:
        from etsdm.backbones.dit_network import DiTNetwork  # on demand, because timm takes seconds to import

        return DiTNetwork(
            self,
            patch_size=self.patch_size,
            hidden_size=self.hidden_size,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            drop_path=self.drop_path,
        )


for size, width, depth, heads in (("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16), ("xl", 1152, 28, 16)):
    for patch in (2, 4, 8):
        backbones.preset(
            f"dit-{size}-{patch}",
            DiT,
            f"DiT-{size.upper()}/{patch} for 256x256 images in a latent of 32x32x4, ImageNet's labels and null class, learned variance.",
            image_size=32,
            in_channels=4,
            out_channels=8,
            patch_size=patch,
            hidden_size=width,
            depth=depth,
            num_heads=heads,
            num_classes=1001,
        )
