"""Blocks of the UNets of EDM (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", table 8).

    block        h = conv1(silu(norm1(conv0(silu(norm0(x))) + emb))),        x <- s (skip(x) + h),  s the skip scale
    attention    h = proj(softmax(q k^T / sqrt(d)) v),  q, k, v from norm2(x),  x <- s (x + h)

Module and parameter names are those of NVlabs/edm, so that its state dicts load as they are. Activations are images, (B, C, H, W),
and `emb` is the embedding of noise level and label, (B, E).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etsdm.backbones.attention import PixelConv
from etsdm.backbones.edm_layers import Direction, Resample, ResampledConv
from etsdm.backbones.kernels import Attention
from etsdm.backbones.layers import GroupNorm32, conv3x3

__all__ = ["AttentionBlock", "Block", "BlockPlan", "BlockStyle", "make_block", "norm_groups"]


def norm_groups(channels: int) -> int:
    """Groups of a normalisation: 32, but at least 4 channels each."""
    return min(32, channels // 4)


class BlockPlan(NamedTuple):
    """What one block of a UNet is.

    Attributes:
        name: its key.
        in_channels: channels of its input, those of a skip included.
        out_channels: channels of its output.
        heads: attention heads, 0 for no attention.
        resample: whether and how it changes the size.
        takes_skip: whether an activation of the way in is concatenated to its input.
    """

    name: str
    in_channels: int
    out_channels: int
    heads: int = 0
    resample: Direction | None = None
    takes_skip: bool = False


@dataclass(frozen=True)
class BlockStyle:
    """What the blocks of a UNet have in common.

    Attributes:
        embed_channels: channels of the embedding.
        dropout: rate before the second convolution.
        eps: added to the variances of the normalisations.
        adaptive_scale: the embedding scales and shifts the normalised activations, instead of being added before the norm.
        skip_scale: factor after each residual sum.
        resample_filter: filter of the blocks that resample.
        resample_proj: the skip of a block that resamples has a 1x1 convolution even where the width stays.
    """

    embed_channels: int
    dropout: float
    eps: float
    adaptive_scale: bool
    skip_scale: float = 1.0
    resample_filter: tuple[float, ...] = (1.0, 1.0)
    resample_proj: bool = False


class Block(nn.Module):
    """Residual block that is told the noise level."""

    def __init__(self, plan: BlockPlan, style: BlockStyle) -> None:
        super().__init__()
        self.style = style
        width = plan.out_channels
        self.norm0 = self._norm(plan.in_channels)
        self.conv0 = self._conv(plan, kernel_size=3)
        self.affine = nn.Linear(style.embed_channels, width * (2 if style.adaptive_scale else 1))
        self.norm1 = self._norm(width)
        self.conv1 = conv3x3(width, width)
        self.skip: nn.Module
        if plan.in_channels != width or (plan.resample and style.resample_proj):
            self.skip = self._conv(plan, kernel_size=1)
        else:
            self.skip = Resample(plan.resample, style.resample_filter) if plan.resample else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Args: x: (B, in_channels, H, W). emb: (B, E). Returns: (B, out_channels, H', W')."""
        h: Tensor = self.conv0(F.silu(self.norm0(x)))
        condition = self.affine(emb).to(h.dtype)[:, :, None, None]
        if self.style.adaptive_scale:
            scale, shift = condition.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm1(h), 1 + scale)
        else:
            h = self.norm1(h + condition)
        h = self.conv1(F.dropout(F.silu(h), self.style.dropout, self.training))
        return self._sum(self.skip(x), h)

    def _sum(self, x: Tensor, h: Tensor) -> Tensor:
        out = x + h
        return out if self.style.skip_scale == 1 else out * self.style.skip_scale

    def _norm(self, channels: int) -> GroupNorm32:
        return GroupNorm32(norm_groups(channels), channels, eps=self.style.eps)

    def _conv(self, plan: BlockPlan, kernel_size: int) -> nn.Conv2d:
        if plan.resample:
            return ResampledConv(plan.in_channels, plan.out_channels, kernel_size, plan.resample, self.style.resample_filter)
        return nn.Conv2d(plan.in_channels, plan.out_channels, kernel_size, padding=kernel_size // 2)


class HeadsConv(PixelConv):
    """q, k and v of each pixel, (B, T, C) -> (B, T, 3, heads, d), by weights whose output channels are (heads, d, qkv)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, 3 * channels)
        self.heads = heads

    def forward(self, input: Tensor) -> Tensor:
        assert self.bias is not None
        # It is the weights that are put into the order (qkv, heads, d): attention kernels want q, k and v in one piece each.
        weight, bias = (parameter.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1) for parameter in (self.weight, self.bias))
        qkv: Tensor = F.linear(input, weight.flatten(1), bias).unflatten(2, (3, self.heads, -1))
        return qkv


class AttentionBlock(Block, Attention):
    """A `Block`, then multi-head self-attention over the pixels."""

    def __init__(self, plan: BlockPlan, style: BlockStyle) -> None:
        super().__init__(plan, style)
        self.norm2 = self._norm(plan.out_channels)
        self.qkv = HeadsConv(plan.out_channels, plan.heads)
        self.proj = PixelConv(plan.out_channels, plan.out_channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Args: x: (B, in_channels, H, W). emb: (B, E). Returns: (B, out_channels, H', W')."""
        x = super().forward(x, emb)
        q, k, v = (part.transpose(1, 2) for part in self.qkv(self.norm2(x).flatten(2).transpose(1, 2)).unbind(2))
        h: Tensor = self.proj(self.attention(q, k, v).transpose(1, 2).flatten(2))
        return self._sum(x, h.transpose(1, 2).reshape(x.shape))


def make_block(plan: BlockPlan, style: BlockStyle) -> Block:
    """The block of a plan."""
    return AttentionBlock(plan, style) if plan.heads else Block(plan, style)
