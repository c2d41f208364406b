"""`mlp`: a residual MLP, for points and for small images.

An image is one vector of its D = channels * height * width values. Each block is

    h <- h + W_2 dropout(silu(W_1 (norm(h) (1 + scale(c)) + shift(c)))),

where c embeds time and label. A point of R^D is an image of D channels and one pixel.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from etsdm.backbones.base import Backbone
from etsdm.backbones.layers import timestep_embedding, zero_init
from etsdm.backbones.network import Network
from etsdm.registry import backbones
from etsdm.registry.counts import Channels, Depth, ImageSize, NumClasses

__all__ = ["MLP", "MLPNetwork"]


@backbones.register("mlp")
class MLP(Backbone):
    """Residual MLP on all values of an image, or on a point as an image of one pixel.

    Attributes:
        image_size: height and width of the images, the only size that it takes; 1 for points.
        in_channels: channels of x; for points, their dimension.
        out_channels: channels of the output.
        width: channels of the residual stream and of the hidden layers.
        depth: number of blocks.
        time_embed_dim: channels of the sinusoids of time and of the embedding of time and label.
        num_classes: number of labels, the null class included, or None for an unconditional network; in a recipe `auto` for those of
            the data, and a null class where training.label_dropout is above 0.
        dropout: rate in the hidden layers.
    """

    image_size: ImageSize
    in_channels: Channels
    out_channels: Channels
    width: Channels = 256
    depth: Depth = 4
    time_embed_dim: Channels = Field(default=128, ge=2)
    num_classes: NumClasses = None
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def divisor(self) -> int:
        return 1

    def build(self) -> MLPNetwork:
        return MLPNetwork(self)


backbones.preset("mlp-plane", MLP, "Points of the plane as images (2, 1, 1).", image_size=1, in_channels=2, out_channels=2, width=128)
backbones.preset("mlp-digits", MLP, "Grey images of 8x8 pixels.", image_size=8, in_channels=1, out_channels=1, width=512)


class MLPBlock(nn.Module):
    """Residual block with one hidden layer; time and label scale and shift its normalised input."""

    def __init__(self, spec: MLP) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.width, elementwise_affine=False)
        self.condition = nn.Linear(spec.time_embed_dim, 2 * spec.width)
        self.layers = nn.Sequential(
            nn.Linear(spec.width, spec.width), nn.SiLU(), nn.Dropout(spec.dropout), zero_init(nn.Linear(spec.width, spec.width))
        )

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Args: h: (B, width). c: (B, time_embed_dim). Returns: (B, width)."""
        scale, shift = self.condition(c).chunk(2, dim=1)
        out: Tensor = h + self.layers(torch.addcmul(shift, self.norm(h), 1 + scale))
        return out


class MLPNetwork(Network):
    """Network of an `MLP`."""

    fixed_size = True

    def __init__(self, spec: MLP) -> None:
        super().__init__(spec)
        self.spec: MLP = spec
        pixels, embed = spec.image_size**2, spec.time_embed_dim
        self.time_embed = nn.Sequential(nn.Linear(embed, embed), nn.SiLU(), nn.Linear(embed, embed))
        if spec.num_classes is not None:
            self.label_emb = nn.Embedding(spec.num_classes, embed)
        self.inner = nn.Linear(spec.in_channels * pixels, spec.width)
        self.blocks = nn.ModuleList(MLPBlock(spec) for _ in range(spec.depth))
        self.out = nn.Sequential(nn.LayerNorm(spec.width), nn.SiLU(), zero_init(nn.Linear(spec.width, spec.out_channels * pixels)))

    def _output(self, x: Tensor, time: Tensor, y: Tensor | None) -> Tensor:
        c = self.time_embed(timestep_embedding(time, self.spec.time_embed_dim).to(x.dtype))
        if y is not None:
            c = c + self.label_emb(y)
        c = nn.functional.silu(c)
        h = self.inner(x.flatten(1))
        for block in self.blocks:
            h = self._run(block, h, c)
        out: Tensor = self.out(h).unflatten(1, (self.spec.out_channels, *x.shape[2:]))
        return out
