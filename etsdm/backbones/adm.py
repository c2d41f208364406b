"""`adm-unet`: the UNet of guided-diffusion (Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis").

An encoder of levels of falling resolution, a middle, and a decoder of the same levels, whose residual blocks concatenate the skip
connections from the encoder. Field names of the specification are the arguments of openai/guided-diffusion's `UNetModel`, and the
network's state dict has its keys. The super-resolution network is this one with twice the input channels.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, cat, nn

from etsdm.backbones.adm_presets import ADM_PRESETS
from etsdm.backbones.attention import AttentionBlock
from etsdm.backbones.base import Backbone
from etsdm.backbones.layers import Downsample, GroupNorm32, ResBlock, Stage, Upsample, conv3x3, timestep_embedding, zero_init
from etsdm.backbones.network import Network
from etsdm.registry import backbones, field_error
from etsdm.registry.counts import Channels, Depth, ImageSize, NumClasses, Ratio

__all__ = ["ADMUNet", "ADMUNetwork"]

# The original sets -1 for None.
Unset = BeforeValidator(lambda value: None if value == -1 else value)


@backbones.register("adm-unet")
class ADMUNet(Backbone):
    """UNet of guided-diffusion, with attention and BigGAN resampling as options.

    Attributes:
        image_size: height and width of the images; the network takes any multiples of `divisor`.
        in_channels: channels of x.
        model_channels: width of a level with multiplier 1, and of the time embedding's sinusoids.
        out_channels: channels of the output.
        num_res_blocks: residual blocks of a level of the encoder; the decoder has one more.
        attention_resolutions: downsampling factors of the levels with attention; the middle always has attention.
        dropout: rate in the residual blocks.
        channel_mult: width of each level over `model_channels`.
        conv_resample: resampling by convolutions; otherwise by average pooling and nearest neighbour. Without effect under
            `resblock_updown`.
        num_classes: number of labels, the null class included, or None for an unconditional network; in a recipe `auto` for those of
            the data, and a null class where training.label_dropout is above 0.
        num_heads: attention heads, if `num_head_channels` is not set.
        num_head_channels: channels of a head; None or -1 to set `num_heads` instead.
        num_heads_upsample: attention heads of the decoder; None or -1 for `num_heads`.
        use_scale_shift_norm: the embedding of time and label scales and shifts the normalised activations, instead of being added.
        resblock_updown: resampling by residual blocks (BigGAN).
        use_new_attention_order: the output channels of `qkv` are (qkv, heads, d) and not (heads, qkv, d).
        time_embed_dim: channels of the embedding of time and label, "timestep channels"; None for 4 * model_channels.
        norm_groups: groups of every group norm; 32 in the original.
    """

    image_size: ImageSize
    in_channels: Channels
    model_channels: Channels
    out_channels: Channels
    num_res_blocks: Depth
    attention_resolutions: tuple[ImageSize, ...]
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    channel_mult: tuple[Ratio, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    conv_resample: bool = True
    num_classes: NumClasses = None
    num_heads: Channels = 1
    num_head_channels: Annotated[Channels | None, Unset] = None
    num_heads_upsample: Annotated[Channels | None, Unset] = None
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    time_embed_dim: Channels | None = None
    norm_groups: Channels = 32

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def divisor(self) -> int:
        return 1 << (len(self.channel_mult) - 1)

    def has_attention(self, level: int) -> bool:
        """Whether a level has attention; level 0 is the full size."""
        return 2**level in self.attention_resolutions

    def heads(self, width: int, in_decoder: bool = False) -> int:
        """Number of heads of an attention layer with `width` channels."""
        if self.num_head_channels is not None:
            return width // self.num_head_channels
        return (in_decoder and self.num_heads_upsample) or self.num_heads

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        for level, (mult, width) in enumerate(zip(self.channel_mult, self.widths, strict=True)):
            if width == 0 or width % self.norm_groups:
                message = f"{mult:g} times model_channels {self.model_channels} gives {width} channels, not a multiple of norm_groups "
                raise field_error("ADMUNet", ("channel_mult", level), f"{message}{self.norm_groups}; change one of the three", mult)
        return self

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.image_size % self.divisor:
            message = f"{self.image_size} is not a multiple of {self.divisor}; give one, or fewer entries of channel_mult"
            raise field_error("ADMUNet", ("image_size",), message, self.image_size)
        factors = {1 << level for level in range(len(self.widths))}
        if unused := set(self.attention_resolutions) - factors:
            # Accepted, because published configurations have such factors.
            message = f"attention_resolutions: no level has the downsampling factors {sorted(unused)}; the factors are {sorted(factors)}"
            warnings.warn(message, stacklevel=2)
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        self._check_head_sizes()
        return self

    def _check_head_sizes(self) -> None:
        levels = {f"level {level}": width for level, width in enumerate(self.widths) if self.has_attention(level)}
        every_layer = {**levels, "the middle": self.widths[-1]}
        by_heads = {"num_heads": every_layer, "num_heads_upsample": levels}
        for field, layers in ({"num_head_channels": every_layer} if self.num_head_channels else by_heads).items():
            value = getattr(self, field)
            for place, width in layers.items():
                if value and width % value:
                    message = f"{value} does not divide the {width} channels of the attention in {place}; give a divisor"
                    raise field_error("ADMUNet", (field,), message, value)

    def build(self) -> ADMUNetwork:
        return ADMUNetwork(self)


for name, (description, fields) in ADM_PRESETS.items():
    backbones.preset(name, ADMUNet, description, **fields)


class ADMUNetwork(Network):
    """Network of an `ADMUNet`."""

    def __init__(self, spec: ADMUNet) -> None:
        super().__init__(spec)
        self.spec: ADMUNet = spec
        self.embed_dim = spec.time_embed_dim or 4 * spec.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(spec.model_channels, self.embed_dim), nn.SiLU(), nn.Linear(self.embed_dim, self.embed_dim)
        )
        if spec.num_classes is not None:
            self._embed_labels(spec.num_classes)

        width = spec.widths[0]
        self.input_blocks = nn.ModuleList([Stage([conv3x3(spec.in_channels, width)])])
        skips = [width]
        for level, level_width in enumerate(spec.widths):
            if level > 0:
                self.input_blocks.append(Stage([self._downsample(width)]))
                skips.append(width)
            for _ in range(spec.num_res_blocks):
                self.input_blocks.append(self._stage(level, width, in_decoder=False))
                width = level_width
                skips.append(width)

        self.middle_block = Stage([self._residual(width, width), self._attention(width), self._residual(width, width)])

        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(spec.widths))):
            for block in range(spec.num_res_blocks + 1):
                stage = self._stage(level, width + skips.pop(), in_decoder=True)
                width = spec.widths[level]
                if level > 0 and block == spec.num_res_blocks:
                    stage.append(self._upsample(width))
                self.output_blocks.append(stage)

        self.out = nn.Sequential(GroupNorm32(spec.norm_groups, width), nn.SiLU(), zero_init(conv3x3(width, spec.out_channels)))

    def _output(self, x: Tensor, time: Tensor, y: Tensor | None) -> Tensor:
        return self._levels(x, self._embedding(x, time, y))

    def _embed_labels(self, num_classes: int) -> None:
        self.label_emb = nn.Embedding(num_classes, self.embed_dim)

    def _embedding(self, x: Tensor, time: Tensor, y: Tensor | None) -> Tensor:
        emb: Tensor = self.time_embed(timestep_embedding(time, self.spec.model_channels).to(x.dtype))
        return emb if y is None else emb + self.label_emb(y)

    def _levels(self, x: Tensor, emb: Tensor, context: Tensor | None = None) -> Tensor:
        h = x
        skips = []
        for stage in self.input_blocks:
            h = self._run(stage, h, emb, context)
            skips.append(h)
        h = self._run(self.middle_block, h, emb, context)
        for stage in self.output_blocks:
            h = self._run(stage, cat([h, skips.pop()], dim=1), emb, context)
        out: Tensor = self.out(h)
        return out

    def _stage(self, level: int, in_channels: int, *, in_decoder: bool) -> Stage:
        width = self.spec.widths[level]
        stage = Stage([self._residual(in_channels, width)])
        if self.spec.has_attention(level):
            stage.append(self._attention(width, in_decoder))
        return stage

    def _residual(self, in_channels: int, out_channels: int, resample: nn.Module | None = None) -> ResBlock:
        return ResBlock(
            in_channels,
            out_channels,
            embed_dim=self.embed_dim,
            norm_groups=self.spec.norm_groups,
            dropout=self.spec.dropout,
            use_scale_shift_norm=self.spec.use_scale_shift_norm,
            resample=resample,
        )

    def _attention(self, width: int, in_decoder: bool = False) -> nn.Module:
        return AttentionBlock(
            width,
            self.spec.heads(width, in_decoder),
            norm_groups=self.spec.norm_groups,
            use_new_attention_order=self.spec.use_new_attention_order,
        )

    def _downsample(self, width: int) -> nn.Module:
        if self.spec.resblock_updown:
            return self._residual(width, width, nn.AvgPool2d(2))
        return Downsample(width) if self.spec.conv_resample else nn.AvgPool2d(2)

    def _upsample(self, width: int) -> nn.Module:
        nearest = nn.Upsample(scale_factor=2.0, mode="nearest")
        if self.spec.resblock_updown:
            return self._residual(width, width, nearest)
        return Upsample(width) if self.spec.conv_resample else nearest
