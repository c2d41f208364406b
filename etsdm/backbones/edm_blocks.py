"""Blocks of the UNets of EDM (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", table 8).

    block        h = conv1(silu(norm1(conv0(silu(norm0(x))) + emb))),        x <- s (skip(x) + h),  s the skip scale
    attention    h = proj(softmax(q k^T / sqrt(d)) v),  q, k, v from norm2(x),  x <- s (x + h)

Module and parameter names are those of NVlabs/edm, so that its state dicts load unchanged. Activations are images, (B, C, H, W),
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

__all__ = ["Block", "BlockPlan", "BlockStyle", "SelfAttentionBlock", "make_block", "norm_groups"]


def norm_groups(channels: int) -> int:
    """Number of groups of a group norm: 32, or fewer so that each has 4 channels."""
    return min(32, channels // 4)


class BlockPlan(NamedTuple):
    """Layout of one block of a UNet.

    Attributes:
        name: its key in the state dict.
        in_channels: channels of its input, those of a skip connection included.
        out_channels: channels of its output.
        heads: attention heads, 0 for no attention.
        resample: direction of its resampling, None for none.
        takes_skip: whether a skip connection from the encoder is concatenated to its input.
    """

    name: str
    in_channels: int
    out_channels: int
    heads: int = 0
    resample: Direction | None = None
    takes_skip: bool = False


@dataclass(frozen=True)
class BlockStyle:
    """Options of all blocks of a UNet.

    Attributes:
        embed_channels: channels of the embedding.
        dropout: rate before the second convolution.
        eps: epsilon of the group norms.
        adaptive_scale: the embedding scales and shifts the normalised activations, instead of being added before the norm.
        skip_scale: factor after each residual sum.
        resample_filter: filter of the blocks that resample.
        resample_proj: the skip of a block that resamples always has a 1x1 convolution, even without a change of width.
    """

    embed_channels: int
    dropout: float
    eps: float
    adaptive_scale: bool
    skip_scale: float = 1.0
    resample_filter: tuple[float, ...] = (1.0, 1.0)
    resample_proj: bool = False


class Block(nn.Module):
    """Residual block conditioned on the embedding of noise level and label."""

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
    """Linear map to q, k and v of each pixel, (B, T, C) -> (B, T, 3, heads, d); output channels of the weights are (heads, d, qkv)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, 3 * channels)
        self.heads = heads

    def forward(self, input: Tensor) -> Tensor:
        assert self.bias is not None
        # Reorders the weights, not the output: attention kernels want q, k and v contiguous.
        weight, bias = (parameter.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1) for parameter in (self.weight, self.bias))
        qkv: Tensor = F.linear(input, weight.flatten(1), bias).unflatten(2, (3, self.heads, -1))
        return qkv


class SelfAttentionBlock(Block, Attention):
    """`Block`, then multi-head self-attention over the pixels."""

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
    """Makes the block of a plan."""
    return SelfAttentionBlock(plan, style) if plan.heads else Block(plan, style)
