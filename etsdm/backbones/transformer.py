"""The spatial transformer of latent diffusion (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models").

The pixels of a level are the tokens of transformer blocks with self-attention, cross-attention to a context, and a gated feed-forward
layer:

    x <- x + attn1(norm1 x),  x <- x + attn2(norm2 x, context),  x <- x + ff(norm3 x)

Module and parameter names are those of CompVis/latent-diffusion. Tokens are (B, T, C), a context is (B, S, D).
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from etsdm.backbones.attention import PixelConv
from etsdm.backbones.kernels import Attention
from etsdm.backbones.layers import GroupNorm32, zero_init

__all__ = ["CrossAttention", "FeedForward", "GatedGELU", "SpatialTransformer", "TransformerBlock"]


class CrossAttention(Attention):
    """Multi-head cross-attention of tokens to a context.

    Args:
        channels: channels of the tokens, and of the output.
        context_dim: channels of the context.
        num_heads: number of heads.
        head_channels: channels of a head, d.
    """

    def __init__(self, channels: int, context_dim: int, *, num_heads: int, head_channels: int) -> None:
        super().__init__()
        inner = num_heads * head_channels
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Args: x: (B, T, channels). context: (B, S, context_dim). Returns: (B, T, channels)."""
        projections = (self.to_q(x), self.to_k(context), self.to_v(context))
        q, k, v = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in projections)
        out: Tensor = self.to_out(self.attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class GatedGELU(nn.Module):
    """GEGLU, a * gelu(b) with a and b the halves of a linear map (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, 2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, T, in_channels). Returns: (B, T, out_channels)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    """GEGLU of four times the width, then a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The identity keeps the keys: the original has a dropout there, which its UNet leaves at rate 0.
        self.net = nn.Sequential(GatedGELU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, T, channels). Returns: the same shape."""
        out: Tensor = self.net(x)
        return out


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: self-attention, cross-attention to the context, feed-forward.

    Args:
        channels: channels of the tokens.
        context_dim: channels of the context.
        num_heads: heads of both attentions.
        head_channels: channels of a head.
    """

    def __init__(self, channels: int, context_dim: int, *, num_heads: int, head_channels: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, channels, num_heads=num_heads, head_channels=head_channels)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context_dim, num_heads=num_heads, head_channels=head_channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Args: x: (B, T, channels). context: (B, S, context_dim). Returns: (B, T, channels)."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Residual transformer blocks over the pixels of an image.

    Args:
        channels: channels of input and output.
        num_heads: heads of each attention.
        head_channels: channels of a head; tokens have num_heads * head_channels.
        depth: number of blocks.
        context_dim: channels of the context.
        norm_groups: groups of the normalisation.
    """

    conditioning: ClassVar[tuple[str, ...]] = ("context",)

    def __init__(self, channels: int, *, num_heads: int, head_channels: int, depth: int, context_dim: int, norm_groups: int) -> None:
        super().__init__()
        inner = num_heads * head_channels
        # The UNet's other norms have an epsilon of 1e-5.
        self.norm = GroupNorm32(norm_groups, channels, eps=1e-6)
        self.proj_in = PixelConv(channels, inner)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(inner, context_dim, num_heads=num_heads, head_channels=head_channels) for _ in range(depth)
        )
        self.proj_out = zero_init(PixelConv(inner, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Args: x: (B, channels, H, W). context: (B, S, context_dim). Returns: (B, channels, H, W)."""
        tokens: Tensor = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        h: Tensor = self.proj_out(tokens)
        return x + h.transpose(1, 2).reshape(x.shape)
