"""`song-unet`: the DDPM++ and NCSN++ networks (Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential
Equations") in the form that EDM gave them (Karras et al. 2022, table 8).

NCSN++ is DDPM++ with random Fourier features of the noise level, smoother resampling, and an auxiliary encoder that adds the resampled
images to the activations of each level, either from the images themselves ("skip") or from the previous sum ("residual"). A "skip"
decoder sums an image from every level. Field names are the arguments of NVlabs/edm's `SongUNet`, and the network's
state dict has its keys.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etsdm.backbones.edm_blocks import BlockStyle, norm_groups
from etsdm.backbones.edm_layers import ConvDownsample, FourierEmbedding, PositionalEmbedding, Resample
from etsdm.backbones.edm_network import EDMUNet, EDMUNetwork, UNetLevel
from etsdm.backbones.layers import GroupNorm32, conv3x3
from etsdm.registry import backbones, field_error
from etsdm.registry.counts import Channels, Depth, ImageSize, Multiplier

__all__ = ["SongUNet", "SongUNetwork"]

NORM_EPS = 1e-6

# Gains of the layers that end a residual branch or begin an attention layer; others have 1.
GAINS = {"conv1": 1e-5, "proj": 1e-5, "aux_conv": 1e-5, "qkv": math.sqrt(0.2)}


@backbones.register("song-unet")
class SongUNet(EDMUNet):
    """UNet of DDPM++ and NCSN++, in EDM's form.

    Attributes:
        image_size: height and width of the images; the network takes any multiples of `divisor`.
        in_channels: channels of x.
        out_channels: channels of the output.
        num_classes: number of labels, the null class included, or None for an unconditional network.
        augment_dim: channels of the augmentation labels; 0 for none.
        model_channels: width of a level with multiplier 1.
        channel_mult: width of each level over `model_channels`.
        channel_mult_emb: width of the embedding over `model_channels`.
        num_blocks: residual blocks of a level of the encoder; the decoder has one more.
        attn_resolutions: resolutions with attention, for images of `image_size`; in a level of the decoder only the last block has
            it. The decoder always begins with attention.
        dropout: rate in the residual blocks.
        embedding_type: sinusoids of the noise level, "positional" with fixed frequencies or "fourier" with random ones.
        channel_mult_noise: channels of the sinusoids over `model_channels`.
        encoder_type: auxiliary encoder: none ("standard"), of the images ("skip"), or of the previous sum ("residual").
        decoder_type: the output is the image of the highest level ("standard") or the sum over all levels ("skip").
        resample_filter: filter of one axis, an even number of values, in any scale.
    """

    model_channels: Channels = 128
    channel_mult: tuple[Multiplier, ...] = Field(default=(1, 2, 2, 2), min_length=1)
    num_blocks: Depth = 4
    attn_resolutions: tuple[ImageSize, ...] = (16,)
    embedding_type: Literal["positional", "fourier"] = "positional"
    channel_mult_noise: Multiplier = 1
    encoder_type: Literal["standard", "skip", "residual"] = "standard"
    decoder_type: Literal["standard", "skip"] = "standard"
    resample_filter: tuple[float, ...] = Field(default=(1.0, 1.0), min_length=2)

    @property
    def noise_channels(self) -> int:
        return self.channel_mult_noise * self.model_channels

    @property
    def stem_width(self) -> int:
        return self.model_channels

    def heads(self, width: int) -> int:
        return 1

    def has_decoder_attention(self, block: int) -> bool:
        return block == self.num_blocks

    @model_validator(mode="after")
    def _check_filter(self) -> Self:
        taps = list(self.resample_filter)
        if len(taps) % 2:
            message = f"{taps} has {len(taps)} values, so it cannot halve and double sizes; give an even number"
            raise field_error("SongUNet", ("resample_filter",), message, taps)
        if sum(taps) == 0:
            raise field_error("SongUNet", ("resample_filter",), f"{taps} sums to 0, so it cannot be scaled to 1; give another", taps)
        return self

    def build(self) -> SongUNetwork:
        return SongUNetwork(self)


class SongUNetwork(EDMUNetwork):
    """Network of a `SongUNet`."""

    def __init__(self, spec: SongUNet) -> None:
        super().__init__(spec)
        self.spec: SongUNet = spec
        pairs = spec.noise_channels // 2
        self.map_noise = FourierEmbedding(pairs) if spec.embedding_type == "fourier" else PositionalEmbedding(pairs, pairs - 1)
        if spec.num_classes is not None:
            self.map_label = nn.Linear(spec.num_classes, spec.noise_channels)
        if spec.augment_dim:
            self.map_augment = nn.Linear(spec.augment_dim, spec.noise_channels, bias=False)
        self.map_layer0 = nn.Linear(spec.noise_channels, spec.embed_channels)
        self.map_layer1 = nn.Linear(spec.embed_channels, spec.embed_channels)
        self._make_blocks(
            BlockStyle(
                embed_channels=spec.embed_channels,
                dropout=spec.dropout,
                eps=NORM_EPS,
                adaptive_scale=False,
                skip_scale=math.sqrt(0.5),
                resample_filter=spec.resample_filter,
                resample_proj=True,
            )
        )
        self._make_auxiliary_inputs()
        self._make_outputs()
        self._initialise()

    def _embed(self, time: Tensor, y: Tensor | None, augment: Tensor | None, dtype: torch.dtype) -> Tensor:
        cos, sin = self.map_noise(time)
        emb = torch.cat([sin, cos], dim=1).to(dtype)
        if y is not None:
            one_hot = self._one_hot(y, dtype)
            emb = emb + self.map_label(one_hot * math.sqrt(one_hot.shape[1]))
        if augment is not None:
            emb = emb + self.map_augment(augment.to(dtype))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def _add_auxiliary_input(self, h: Tensor, auxiliary: Tensor, level: UNetLevel) -> tuple[Tensor, Tensor]:
        if self.spec.encoder_type == "skip":
            auxiliary = self.enc[f"{level.tag}_aux_down"](auxiliary)
            return h + self.enc[f"{level.tag}_aux_skip"](auxiliary), auxiliary
        if self.spec.encoder_type == "residual":
            h = (h + self.enc[f"{level.tag}_aux_residual"](auxiliary)) / math.sqrt(2)
            return h, h
        return h, auxiliary

    def _add_output(self, out: Tensor | None, h: Tensor, level: UNetLevel) -> Tensor | None:
        if f"{level.tag}_aux_conv" not in self.dec:
            return out
        image: Tensor = self.dec[f"{level.tag}_aux_conv"](F.silu(self.dec[f"{level.tag}_aux_norm"](h)))
        return image if out is None else image + self.dec[f"{level.tag}_aux_up"](out)

    def _make_auxiliary_inputs(self) -> None:
        taps, channels = self.spec.resample_filter, self.spec.in_channels
        for tag, blocks in self.encoder[1:]:
            width = blocks[0].out_channels
            if self.spec.encoder_type == "skip":
                self.enc[f"{tag}_aux_down"] = Resample("down", taps)
                self.enc[f"{tag}_aux_skip"] = nn.Conv2d(channels, width, kernel_size=1)
            if self.spec.encoder_type == "residual":
                self.enc[f"{tag}_aux_residual"] = ConvDownsample(channels, width, taps)
                channels = width

    def _make_outputs(self) -> None:
        every_level = self.spec.decoder_type == "skip"
        for tag, blocks in self.decoder if every_level else self.decoder[-1:]:
            width = blocks[-1].out_channels
            if every_level and tag != self.decoder[0].tag:
                self.dec[f"{tag}_aux_up"] = Resample("up", self.spec.resample_filter)
            self.dec[f"{tag}_aux_norm"] = GroupNorm32(norm_groups(width), width, eps=NORM_EPS)
            self.dec[f"{tag}_aux_conv"] = conv3x3(width, self.spec.out_channels)

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight, next((gain for end, gain in GAINS.items() if name.endswith(end)), 1.0))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


DDPMPP: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "model_channels": 128, "augment_dim": 9}
NCSNPP: dict[str, Any] = {
    **DDPMPP,
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "resample_filter": (1, 3, 3, 1),
}
# End of the name, data set, and fields of the published training.
DATA: list[tuple[str, str, dict[str, Any]]] = [
    ("cifar10", "CIFAR-10", {"image_size": 32, "channel_mult": (2, 2, 2), "dropout": 0.13}),
    ("cifar10-cond", "CIFAR-10, with labels", {"image_size": 32, "channel_mult": (2, 2, 2), "dropout": 0.13, "num_classes": 10}),
    ("ffhq64", "FFHQ 64x64", {"image_size": 64, "channel_mult": (1, 2, 2, 2), "dropout": 0.05}),
    ("afhq64", "AFHQv2 64x64", {"image_size": 64, "channel_mult": (1, 2, 2, 2), "dropout": 0.25}),
]
for _end, _images, _fields in DATA:
    backbones.preset(f"edm-{_end}", SongUNet, f"DDPM++ of EDM for {_images}.", **DDPMPP, **_fields)
    backbones.preset(f"ncsnpp-{_end}", SongUNet, f"NCSN++ of EDM for {_images}.", **NCSNPP, **_fields)
