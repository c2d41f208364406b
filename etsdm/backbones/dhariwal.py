"""`dhariwal-unet`: guided-diffusion's UNet in the form that EDM gave it (Dhariwal and Nichol 2021; Karras et al. 2022, table 8).

Differences to `adm-unet`: the order of the output channels of `qkv`, a label embedding without bias that is added after both layers of
the time MLP, the place of the resampling, and attention heads of 64 channels. Field names are the arguments of
NVlabs/edm's `DhariwalUNet`, and the network's state dict has its keys.
"""

from __future__ import annotations

import warnings
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etsdm.backbones.edm_blocks import BlockStyle, norm_groups
from etsdm.backbones.edm_layers import PositionalEmbedding
from etsdm.backbones.edm_network import EDMUNet, EDMUNetwork, UNetLevel
from etsdm.backbones.layers import GroupNorm32, conv3x3, zero_init
from etsdm.registry import backbones
from etsdm.registry.counts import Channels, Depth, ImageSize, Multiplier

__all__ = ["DhariwalUNet", "DhariwalUNetwork"]

NORM_EPS = 1e-5
CHANNELS_PER_HEAD = 64
ZERO_INIT_LAYERS = ("conv1", "proj")


@backbones.register("dhariwal-unet")
class DhariwalUNet(EDMUNet):
    """UNet of guided-diffusion, in EDM's form.

    Attributes:
        image_size: height and width of the images; the network takes any multiples of `divisor`.
        in_channels: channels of x.
        out_channels: channels of the output.
        num_classes: number of labels, the null class included, or None for an unconditional network.
        augment_dim: channels of the augmentation labels; 0 for none.
        model_channels: width of a level with multiplier 1, and channels of the sinusoids of the noise level.
        channel_mult: width of each level over `model_channels`.
        channel_mult_emb: width of the embedding over `model_channels`.
        num_blocks: residual blocks of a level of the encoder; the decoder has one more.
        attn_resolutions: resolutions with attention, for images of `image_size`; the decoder always begins with attention. Levels
            of fewer than 64 channels have none.
        dropout: rate in the residual blocks.
    """

    model_channels: Channels = 192
    channel_mult: tuple[Multiplier, ...] = Field(default=(1, 2, 3, 4), min_length=1)
    num_blocks: Depth = 3
    attn_resolutions: tuple[ImageSize, ...] = (32, 16, 8)

    @property
    def stem_width(self) -> int:
        return self.widths[0]

    def heads(self, width: int) -> int:
        return width // CHANNELS_PER_HEAD

    def has_decoder_attention(self, block: int) -> bool:
        return True

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        narrow = [size for size, width in zip(self.sizes, self.widths, strict=True) if not self.heads(width)]
        if unused := sorted(set(narrow) & set(self.attn_resolutions)):
            # Accepted, as in the original, which does not warn.
            message = (
                f"attn_resolutions: {unused} have no attention, because they have fewer than the {CHANNELS_PER_HEAD} channels of a head"
            )
            warnings.warn(message, stacklevel=2)
        return self

    def build(self) -> DhariwalUNetwork:
        return DhariwalUNetwork(self)


class DhariwalUNetwork(EDMUNetwork):
    """Network of a `DhariwalUNet`."""

    def __init__(self, spec: DhariwalUNet) -> None:
        super().__init__(spec)
        pairs = spec.noise_channels // 2
        self.map_noise = PositionalEmbedding(pairs, pairs)
        if spec.augment_dim:
            self.map_augment = zero_init(nn.Linear(spec.augment_dim, spec.noise_channels, bias=False))
        self.map_layer0 = nn.Linear(spec.noise_channels, spec.embed_channels)
        self.map_layer1 = nn.Linear(spec.embed_channels, spec.embed_channels)
        if spec.num_classes is not None:
            self.map_label = nn.Linear(spec.num_classes, spec.embed_channels, bias=False)
            nn.init.normal_(self.map_label.weight)
        self._make_blocks(BlockStyle(spec.embed_channels, spec.dropout, NORM_EPS, adaptive_scale=True))
        for name, module in self.named_modules():
            # Other weights are uniform within 1 / sqrt(fan-in), torch's default.
            if name.endswith(ZERO_INIT_LAYERS):
                zero_init(module)
        width = spec.widths[0]
        self.out_norm = GroupNorm32(norm_groups(width), width, eps=NORM_EPS)
        self.out_conv = zero_init(conv3x3(width, spec.out_channels))

    def _embed(self, time: Tensor, y: Tensor | None, augment: Tensor | None, dtype: torch.dtype) -> Tensor:
        emb = torch.cat(self.map_noise(time), dim=1).to(dtype)
        if augment is not None:
            emb = emb + self.map_augment(augment.to(dtype))
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if y is not None:
            emb = emb + self.map_label(self._one_hot(y, dtype))
        return F.silu(emb)

    def _add_output(self, out: Tensor | None, h: Tensor, level: UNetLevel) -> Tensor | None:
        if level is not self.decoder[-1]:
            return None
        image: Tensor = self.out_conv(F.silu(self.out_norm(h)))
        return image


backbones.preset(
    "edm-imagenet64",
    DhariwalUNet,
    "ADM of EDM for ImageNet 64x64, with labels.",
    image_size=64,
    in_channels=3,
    out_channels=3,
    num_classes=1000,
    dropout=0.1,
)
