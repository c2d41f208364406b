"""Multi-head self-attention over the pixels of an image.

Module and parameter names are those of openai/guided-diffusion.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from etsdm.backbones.kernels import Attention
from etsdm.backbones.layers import GroupNorm32, zero_init

__all__ = ["AttentionBlock", "PixelConv", "PixelLinear"]


class PixelLinear(nn.Conv1d):
    """Linear map of each pixel, (B, T, in) -> (B, T, out), with the weights of a convolution of width 1, (out, in, 1).

    With channels last, attention kernels read heads without a copy.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.squeeze(-1), self.bias)


class PixelConv(nn.Conv2d):
    """Linear map of each pixel, (B, T, in) -> (B, T, out), with the weights of a 1x1 convolution, (out, in, 1, 1)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


class AttentionBlock(Attention):
    """Residual multi-head self-attention over all pixels.

    The output channels of `qkv` are either (heads, qkv, d), guided-diffusion's legacy order, or (qkv, heads, d), its new one.
    The original scales q and k by d^(-1/4) each; the scale of the product, d^(-1/2), is the one used here.

    Args:
        channels: channels of input and output.
        num_heads: number of heads; d = channels / num_heads.
        norm_groups: groups of the normalisation.
        use_new_attention_order: the order of the output channels of `qkv`.
    """

    def __init__(self, channels: int, num_heads: int, *, norm_groups: int, use_new_attention_order: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.use_new_attention_order = use_new_attention_order
        self.norm = GroupNorm32(norm_groups, channels)
        self.qkv = PixelLinear(channels, 3 * channels)
        self.proj_out = zero_init(PixelLinear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W). Returns: the same shape."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        split, qkv_dim = ((3, self.num_heads), 2) if self.use_new_attention_order else ((self.num_heads, 3), 3)
        q, k, v = (part.transpose(1, 2) for part in self.qkv(pixels).unflatten(2, (*split, -1)).unbind(qkv_dim))
        heads = self.attention(q, k, v)  # (B, heads, T, d)
        h: Tensor = self.proj_out(heads.transpose(1, 2).flatten(2))
        return x + h.transpose(1, 2).reshape(x.shape)
