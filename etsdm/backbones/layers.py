"""Layers of the convolutional backbones.

Module and parameter names are those of openai/guided-diffusion, so that its state dicts load unchanged. Activations are
images, (B, C, H, W), and `emb` is the embedding of time and label, (B, E).
"""

from __future__ import annotations

import math
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Downsample", "GroupNorm32", "ResBlock", "Stage", "Upsample", "conv3x3", "timestep_embedding", "zero_init"]

M = TypeVar("M", bound=nn.Module)


def timestep_embedding(time: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal time embedding, cosines first (Vaswani et al. 2017, in the order of Dhariwal and Nichol 2021).

    Channel i of the first half is cos(t w_i), of the second sin(t w_i), with w_i = max_period^(-i / (dim // 2)). An odd `dim`
    ends in a zero.

    Args:
        time: any finite values, (B,).
        dim: number of channels.
        max_period: its inverse is the limit of the lowest frequency.

    Returns:
        float32, (B, dim).
    """
    half = dim // 2
    # A rounding error of a frequency shifts the phase of t = 1000 by up to 1e-4, so the frequencies are rounded as in the training
    # of published weights: float32, in this order.
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=time.device) / half)
    phase = time.float()[:, None] * frequencies
    embedding = torch.cat([phase.cos(), phase.sin()], dim=1)
    return F.pad(embedding, (0, 1)) if dim % 2 else embedding


def zero_init(module: M) -> M:
    """Sets all parameters of a module to zero, so that a residual branch that ends in it starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, or divides it by `stride`."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)


class GroupNorm32(nn.GroupNorm):
    """Group normalisation in float32 or wider, returned in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.group_norm(x.to(wide), self.num_groups, self.weight.to(wide), self.bias.to(wide), self.eps).to(x.dtype)


class Downsample(nn.Module):
    """Halves the size by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = conv3x3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.op(x)
        return h


class UpsampleConv(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution, in one step.

    Pixels of the upsampled image are equal in pairs, so on each axis it is the transposed convolution of the small image, with
    stride 2, by w_2, w_1 + w_2, w_0 + w_1, w_0: 16 products for four pixels of the output instead of 36.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        kernel = self.weight.flip(2, 3).transpose(0, 1)
        kernel = F.pad(kernel, (1, 0)) + F.pad(kernel, (0, 1))
        kernel = F.pad(kernel, (0, 0, 1, 0)) + F.pad(kernel, (0, 0, 0, 1))
        return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)


class Upsample(nn.Module):
    """Doubles the size: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = UpsampleConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x)
        return h


class ResBlock(nn.Module):
    """Residual block conditioned on the embedding of time and label, with optional resampling (BigGAN, Brock et al. 2019).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; if they differ, the skip is a 1x1 convolution.
        embed_dim: channels of the embedding.
        norm_groups: groups of both normalisations.
        dropout: rate before the last convolution.
        use_scale_shift_norm: norm(h) * (1 + scale) + shift with scale and shift from the embedding (FiLM); otherwise the embedding
            is added before the norm.
        resample: applied to the branch before its first convolution and to the skip; a module without parameters.
    """

    conditioning: ClassVar[tuple[str, ...]] = ("emb",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embed_dim: int,
        norm_groups: int,
        dropout: float,
        use_scale_shift_norm: bool,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.use_scale_shift_norm = use_scale_shift_norm
        self.in_layers = nn.Sequential(GroupNorm32(norm_groups, in_channels), nn.SiLU(), conv3x3(in_channels, out_channels))
        self.resample = resample
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed_dim, out_channels * (2 if use_scale_shift_norm else 1)))
        self.out_layers = nn.Sequential(
            GroupNorm32(norm_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(conv3x3(out_channels, out_channels)),
        )
        self.skip_connection: nn.Module = (
            nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, kernel_size=1)
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Args: x: (B, in_channels, H, W). emb: (B, embed_dim). Returns: (B, out_channels, H', W')."""
        norm, activation, conv = self.in_layers
        h: Tensor = activation(norm(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = conv(h)
        condition = self.emb_layers(emb).to(h.dtype)[:, :, None, None]
        norm, activation, dropout, conv = self.out_layers
        if self.use_scale_shift_norm:
            scale, shift = condition.chunk(2, dim=1)
            h = torch.addcmul(shift, norm(h), 1 + scale)
        else:
            h = norm(h + condition)
        h = self.skip_connection(x) + conv(dropout(activation(h)))
        return h


class Stage(nn.ModuleList):
    """Sequence of layers, each of which names in `conditioning` what it takes beside x: `emb`, `context`, or nothing."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None = None) -> Tensor:
        """Args: x: (B, C, H, W). emb: (B, E). context: (B, S, D), if a layer takes it. Returns: (B, C', H', W')."""
        inputs = {"emb": emb, "context": context}
        for layer in self:
            x = layer(x, *(inputs[name] for name in getattr(layer, "conditioning", ())))
        return x
