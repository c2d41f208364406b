"""Encoder and decoder of the first stages of latent diffusion (Esser et al. 2021, "Taming Transformers for High-Resolution Image
Synthesis").

Levels of falling resolution, a middle with attention, and in the decoder the levels again, without skip connections.
Module and parameter names are those of CompVis/latent-diffusion. Activations are images, (B, C, H, W).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from etsdm.backbones.attention import PixelConv
from etsdm.backbones.first_stages.autoencoder import Autoencoder
from etsdm.backbones.kernels import Attention
from etsdm.backbones.layers import GroupNorm32, Upsample, conv3x3

__all__ = ["Decoder", "Encoder"]


def norm(spec: Autoencoder, channels: int) -> GroupNorm32:
    """Group norm of the first stages, with an epsilon of 1e-6 (1e-5 in the UNets)."""
    return GroupNorm32(spec.norm_groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Residual block of two convolutions; if the width changes, the skip is a 1x1 convolution."""

    def __init__(self, spec: Autoencoder, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = norm(spec, in_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = norm(spec, out_channels)
        self.dropout = nn.Dropout(spec.dropout)
        self.conv2 = conv3x3(out_channels, out_channels)
        same = in_channels == out_channels
        self.nin_shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, in_channels, H, W). Returns: (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class PixelAttention(Attention):
    """Residual self-attention over all pixels, with one head."""

    def __init__(self, spec: Autoencoder, channels: int) -> None:
        super().__init__()
        self.norm = norm(spec, channels)
        self.q = PixelConv(channels, channels)
        self.k = PixelConv(channels, channels)
        self.v = PixelConv(channels, channels)
        self.proj_out = PixelConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W). Returns: the same shape."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (layer(pixels)[:, None] for layer in (self.q, self.k, self.v))
        h: Tensor = self.proj_out(self.attention(q, k, v)[:, 0])
        return x + h.transpose(1, 2).reshape(x.shape)


def attention(spec: Autoencoder, channels: int) -> nn.Module:
    """Attention layer, or the identity where `attn_type` is "none"."""
    return nn.Identity() if spec.attn_type == "none" else PixelAttention(spec, channels)


class PaddedDownsample(nn.Module):
    """Downsampling by a strided convolution with padding below and to the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W), H and W even. Returns: (B, C, H/2, W/2)."""
        h: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return h


class CoderLevel(nn.Module):
    """Residual blocks of one resolution, each followed by attention if the level has it."""

    def __init__(self, spec: Autoencoder, level: int, in_channels: int, blocks: int) -> None:
        super().__init__()
        width = spec.widths[level]
        has_attention = spec.sizes[level] in spec.attn_resolutions
        self.block = nn.ModuleList(ResidualBlock(spec, width if i else in_channels, width) for i in range(blocks))
        self.attn = nn.ModuleList(attention(spec, width) for _ in range(blocks if has_attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, in_channels, H, W). Returns: (B, width of the level, H', W')."""
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return x


class DownLevel(CoderLevel):
    """Level of the encoder, followed by downsampling unless it is the last."""

    def __init__(self, spec: Autoencoder, level: int, in_channels: int) -> None:
        super().__init__(spec, level, in_channels, spec.num_res_blocks)
        downsample = PaddedDownsample(spec.widths[level]) if spec.resamp_with_conv else nn.AvgPool2d(2)
        self.downsample = nn.Identity() if level == len(spec.widths) - 1 else downsample

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.downsample(super().forward(x))
        return h


class UpLevel(CoderLevel):
    """Level of the decoder, followed by upsampling unless it has the full resolution."""

    def __init__(self, spec: Autoencoder, level: int, in_channels: int) -> None:
        super().__init__(spec, level, in_channels, spec.num_res_blocks + 1)
        upsample = Upsample(spec.widths[level]) if spec.resamp_with_conv else nn.Upsample(scale_factor=2.0, mode="nearest")
        self.upsample = nn.Identity() if level == 0 else upsample

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.upsample(super().forward(x))
        return h


class Middle(nn.Module):
    """Middle: attention between two residual blocks."""

    def __init__(self, spec: Autoencoder) -> None:
        super().__init__()
        width = spec.widths[-1]
        self.block_1 = ResidualBlock(spec, width, width)
        self.attn_1 = attention(spec, width)
        self.block_2 = ResidualBlock(spec, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W). Returns: the same shape."""
        h: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return h


class Encoder(nn.Module):
    """Encoder, from images to latents or the moments of their distribution."""

    def __init__(self, spec: Autoencoder) -> None:
        super().__init__()
        self.conv_in = conv3x3(spec.in_channels, spec.ch)
        in_widths = (spec.ch, *spec.widths)
        self.down = nn.ModuleList(DownLevel(spec, level, in_widths[level]) for level in range(len(spec.widths)))
        self.mid = Middle(spec)
        self.norm_out = norm(spec, spec.widths[-1])
        self.conv_out = conv3x3(spec.widths[-1], (2 if spec.double_z else 1) * spec.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, in_channels, H, W). Returns: (B, z_channels or twice as many, H/factor, W/factor)."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return out


class Decoder(nn.Module):
    """Decoder, from latents to images."""

    def __init__(self, spec: Autoencoder) -> None:
        super().__init__()
        self.tanh_out = spec.tanh_out
        self.conv_in = conv3x3(spec.z_channels, spec.widths[-1])
        self.mid = Middle(spec)
        in_widths = (*spec.widths[1:], spec.widths[-1])
        self.up = nn.ModuleList(UpLevel(spec, level, in_widths[level]) for level in range(len(spec.widths)))
        self.norm_out = norm(spec, spec.widths[0])
        self.conv_out = conv3x3(spec.widths[0], spec.out_ch)

    def forward(self, z: Tensor) -> Tensor:
        """Args: z: (B, z_channels, h, w). Returns: (B, out_ch, h * factor, w * factor)."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out.tanh() if self.tanh_out else out
