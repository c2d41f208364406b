"""Base of `song-unet` and `dhariwal-unet`, the two UNets of EDM (Karras et al. 2022, appendix F.1).

An encoder of levels of falling resolution and a decoder, whose residual blocks, except those that resample, concatenate the skip
connections from the encoder. The specification lays out every block before a network is built. `image_size` is the original's
img_resolution and `num_classes` its label_dim; the other arguments have the same names. There is no label_dropout: training drops
labels, in the same way for every backbone.

The time input is the noise level c_noise: ln(sigma) / 4 with the preconditioning of EDM, 999 t with that of VP, ln(sigma / 2) with that
of VE (table 1).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from functools import cached_property
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from etsdm.backbones.base import Backbone
from etsdm.backbones.edm_blocks import BlockPlan, BlockStyle, make_block, norm_groups
from etsdm.backbones.layers import conv3x3
from etsdm.backbones.network import Network
from etsdm.registry import field_error
from etsdm.registry.counts import Channels, Depth, ExtraChannels, ImageSize, Multiplier, NumClasses

__all__ = ["ORIGINAL_PREFIX", "EDMUNet", "EDMUNetwork", "UNetLevel"]

# The original's checkpoints hold the network inside its preconditioning: their keys are this, then ours.
ORIGINAL_PREFIX = "model."


class UNetLevel(NamedTuple):
    """Blocks of one resolution; `tag`, for example "32x32", begins their names."""

    tag: str
    blocks: tuple[BlockPlan, ...]


class EDMUNet(Backbone):
    """Layout and shared fields of the UNets of EDM, which subclasses describe."""

    image_size: ImageSize
    in_channels: Channels
    out_channels: Channels
    num_classes: NumClasses = None
    augment_dim: ExtraChannels = 0
    model_channels: Channels
    channel_mult: tuple[Multiplier, ...] = Field(min_length=1)
    channel_mult_emb: Multiplier = 4
    num_blocks: Depth
    attn_resolutions: tuple[ImageSize, ...]
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @property
    def divisor(self) -> int:
        return 1 << (len(self.channel_mult) - 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Resolution of each level."""
        return tuple(self.image_size >> level for level in range(len(self.channel_mult)))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(mult * self.model_channels for mult in self.channel_mult)

    @property
    def embed_channels(self) -> int:
        """Channels of the embedding."""
        return self.channel_mult_emb * self.model_channels

    @property
    def noise_channels(self) -> int:
        """Channels of the sinusoids of the noise level."""
        return self.model_channels

    @property
    @abstractmethod
    def stem_width(self) -> int:
        """Channels of the first convolution."""

    @abstractmethod
    def heads(self, width: int) -> int:
        """Number of heads of an attention layer with `width` channels; 0 for no attention."""

    @abstractmethod
    def has_decoder_attention(self, block: int) -> bool:
        """Whether a block of the decoder, counted within a level with attention, has attention."""

    @cached_property
    def encoder(self) -> tuple[UNetLevel, ...]:
        """Levels of the encoder after the first convolution, from the highest resolution."""
        levels: list[UNetLevel] = []
        width = self.stem_width
        for depth, (size, level_width) in enumerate(zip(self.sizes, self.widths, strict=True)):
            tag = f"{size}x{size}"
            blocks = [BlockPlan(f"{tag}_down", width, width, resample="down")] if depth else []
            heads = self.heads(level_width) if size in self.attn_resolutions else 0
            for block in range(self.num_blocks):
                blocks.append(BlockPlan(f"{tag}_block{block}", width, level_width, heads))
                width = level_width
            levels.append(UNetLevel(tag, tuple(blocks)))
        return tuple(levels)

    @cached_property
    def decoder(self) -> tuple[UNetLevel, ...]:
        """Levels of the decoder, from the lowest resolution."""
        levels: list[UNetLevel] = []
        width = self.widths[-1]
        skips = [self.stem_width, *(block.out_channels for level in self.encoder for block in level.blocks)]
        for size, level_width in reversed(list(zip(self.sizes, self.widths, strict=True))):
            tag = f"{size}x{size}"
            if levels:
                blocks = [BlockPlan(f"{tag}_up", width, width, resample="up")]
            else:
                blocks = [BlockPlan(f"{tag}_in0", width, width, self.heads(width)), BlockPlan(f"{tag}_in1", width, width)]
            for block in range(self.num_blocks + 1):
                has_attention = size in self.attn_resolutions and self.has_decoder_attention(block)
                heads = self.heads(level_width) if has_attention else 0
                blocks.append(BlockPlan(f"{tag}_block{block}", width + skips.pop(), level_width, heads, takes_skip=True))
                width = level_width
            levels.append(UNetLevel(tag, tuple(blocks)))
        return tuple(levels)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.image_size % self.divisor:
            message = f"{self.image_size} is not a multiple of {self.divisor}; give one, or fewer entries of channel_mult"
            raise field_error(type(self).__name__, ("image_size",), message, self.image_size)
        if unused := set(self.attn_resolutions) - set(self.sizes):
            # Accepted, because the default is for published sizes.
            message = f"attn_resolutions: no level has {sorted(unused)}; the resolutions are {sorted(self.sizes)}"
            warnings.warn(message, stacklevel=2)
        return self

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        if self.noise_channels % 2:
            raise self._width_error("is odd, and the sinusoids come in pairs")
        for block in (block for level in (*self.encoder, *self.decoder) for block in level.blocks):
            for channels in (block.in_channels, block.out_channels):
                groups = norm_groups(channels)
                if groups == 0:
                    raise self._width_error(f"gives {block.name} {channels} channels, and a group of its norms has 4")
                if channels % groups:
                    raise self._width_error(f"gives {block.name} {channels} channels, which its norms cannot split into {groups} groups")
            if block.heads and block.out_channels % block.heads:
                raise self._width_error(f"gives {block.name} {block.out_channels} channels, which do not split into {block.heads} heads")
        return self

    def _width_error(self, problem: str) -> ValidationError:
        message = f"{self.model_channels} {problem}; change it or channel_mult {list(self.channel_mult)}"
        return field_error(type(self).__name__, ("model_channels",), message, self.model_channels)


class EDMUNetwork(Network):
    """Base of the networks of an `EDMUNet`, with blocks in `enc` and `dec` by the names in the specification."""

    enc: nn.ModuleDict
    dec: nn.ModuleDict

    def __init__(self, spec: EDMUNet) -> None:
        super().__init__(spec)
        self.spec: EDMUNet = spec
        self.encoder = spec.encoder
        self.decoder = spec.decoder

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None, augment: Tensor | None = None) -> Tensor:
        """Evaluates the network.

        Args:
            x: images, (B, in_channels, H, W), H and W multiples of the specification's `divisor`.
            time: noise level c_noise, any finite values, (B,).
            y: class labels, (B,), if and only if `num_classes` is set.
            augment: augmentation labels, (B, augment_dim); None for images without augmentation.

        Returns:
            (B, out_channels, H, W), in the dtype of x.

        Raises:
            ValueError: a shape does not fit, or a label or `augment` is missing or not expected.
        """
        self._check_call(x, time, y, augment)
        emb = self._embed(time, y, augment, x.dtype)
        h = self.enc[f"{self.encoder[0].tag}_conv"](x)
        skips, auxiliary = [h], x
        for level in self.encoder:
            for plan in level.blocks:
                h = self._run(self.enc[plan.name], h, emb)
                if plan.resample:
                    h, auxiliary = self._add_auxiliary_input(h, auxiliary, level)
                skips.append(h)
        out = None
        for level in self.decoder:
            h = self._decode(h, skips, emb, level)
            out = self._add_output(out, h, level)
        assert out is not None
        return out.to(x.dtype)

    def _embed(self, time: Tensor, y: Tensor | None, augment: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Embeds noise level, label and augmentation. Returns: (B, embed_channels)."""
        raise NotImplementedError

    def _add_auxiliary_input(self, h: Tensor, auxiliary: Tensor, level: UNetLevel) -> tuple[Tensor, Tensor]:
        """Adds an auxiliary encoder to the first activations of a level. Returns: the sum, and the input of the next level's."""
        return h, auxiliary

    def _add_output(self, out: Tensor | None, h: Tensor, level: UNetLevel) -> Tensor | None:
        """Adds the image of a level's activations to that of the lower levels. Returns: the sum, None if there is none yet."""
        raise NotImplementedError

    def _make_blocks(self, style: BlockStyle) -> None:
        """Makes `enc` and `dec`."""
        first = {f"{self.encoder[0].tag}_conv": conv3x3(self.spec.in_channels, self.spec.stem_width)}
        self.enc = nn.ModuleDict(first | {plan.name: make_block(plan, style) for level in self.encoder for plan in level.blocks})
        self.dec = nn.ModuleDict({plan.name: make_block(plan, style) for level in self.decoder for plan in level.blocks})

    def _decode(self, h: Tensor, skips: list[Tensor], emb: Tensor, level: UNetLevel) -> Tensor:
        """Evaluates a level of the decoder, which pops its skip connections."""
        for plan in level.blocks:
            if plan.takes_skip:
                h = torch.cat([h, skips.pop()], dim=1)
            h = self._run(self.dec[plan.name], h, emb)
        return h

    def _one_hot(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """One-hot labels, (B, num_classes)."""
        assert self.spec.num_classes is not None
        return F.one_hot(y.long(), self.spec.num_classes).to(dtype)

    def _check_call(self, x: Tensor, time: Tensor, y: Tensor | None, augment: Tensor | None) -> None:
        self._check(x, time, y)
        if augment is None:
            return
        if self.spec.augment_dim == 0:
            raise ValueError("augment was given to a network without augmentation labels; leave it out or set augment_dim")
        if augment.shape != (x.shape[0], self.spec.augment_dim):
            raise ValueError(f"augment has shape {tuple(augment.shape)}; give ({x.shape[0]}, {self.spec.augment_dim})")
