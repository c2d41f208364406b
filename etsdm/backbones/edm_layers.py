"""Layers of the UNets of EDM: embeddings of the noise level c, and filtered resampling (Karras et al. 2022, "Elucidating the Design
Space of Diffusion-Based Generative Models", appendix F.1).

    positional   cos(c w_i), sin(c w_i),        w_i = 10000^(-i / intervals)
    fourier      cos(2 pi f_i c), sin(2 pi f_i c),  f_i drawn from N(0, 16^2)
    down         y_i = sum_j a_j x_(2i+j),      sum_j a_j = 1,  on each axis, x zero beyond the border
    up           the transpose of it,           sum_j a_j = 2

Parameter and buffer names are those of NVlabs/edm. Activations are images, (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvDownsample", "Direction", "FourierEmbedding", "PositionalEmbedding", "Resample", "ResampledConv"]

Direction = Literal["down", "up"]

MAX_PERIOD = 10000.0
FOURIER_SCALE = 16.0


class PositionalEmbedding(nn.Module):
    """Sinusoidal embedding of the noise level c with the frequencies w_i = 10000^(-i / intervals), i = 0 ... count - 1."""

    def __init__(self, count: int, intervals: int) -> None:
        super().__init__()
        self.count = count
        self.intervals = intervals

    def forward(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Args: c: any finite values, (B,). Returns: cos(c w) and sin(c w), float32, (B, count) each."""
        exponents = torch.arange(self.count, dtype=torch.float32, device=c.device) / self.intervals
        # In float32, as in the training of published weights: a rounding error of a frequency shifts the phase of c = 999 by 1e-4.
        return _sinusoids(c, (1 / MAX_PERIOD) ** exponents)


class FourierEmbedding(nn.Module):
    """Random Fourier features of the noise level c: angular frequencies 2 pi f, f drawn from N(0, 16^2) and saved with the weights."""

    freqs: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("freqs", nn.init.normal_(torch.empty(count), std=FOURIER_SCALE))

    def forward(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Args: c: any finite values, (B,). Returns: cos(2 pi f c) and sin(2 pi f c), float32, (B, count) each."""
        return _sinusoids(c, 2 * math.pi * self.freqs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A network in bfloat16 keeps exact frequencies: rounded, they would shift phases of hundreds of radians by more than one.
        exact = self.freqs
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.freqs.dtype.itemsize < exact.dtype.itemsize:
            self.freqs = exact.to(self.freqs.device)
        return self


def _sinusoids(c: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    phase = c.float()[:, None] * frequencies.float()
    return phase.cos(), phase.sin()


def _filter(taps: Sequence[float]) -> Tensor:
    line = torch.tensor(taps, dtype=torch.float32)
    return (torch.outer(line, line) / line.sum().square())[None, None]


def _resample(x: Tensor, kernel: Tensor, direction: Direction, padding: int) -> Tensor:
    channels = x.shape[1]
    each = kernel.to(x.dtype).expand(channels, -1, -1, -1)
    if direction == "down":
        return F.conv2d(x, each, stride=2, padding=padding, groups=channels)
    return F.conv_transpose2d(x, 4 * each, stride=2, padding=padding, groups=channels)


class Resample(nn.Module):
    """Filtered downsampling or upsampling by 2 of each channel; x is zero beyond the border.

    Args:
        direction: "down" halves the size, "up" doubles it.
        taps: filter of one axis, an even number of values, in any scale.
    """

    resample_filter: Tensor

    def __init__(self, direction: Direction, taps: Sequence[float]) -> None:
        super().__init__()
        self.direction = direction
        self.padding = (len(taps) - 1) // 2
        self.register_buffer("resample_filter", _filter(taps))

    def forward(self, x: Tensor) -> Tensor:
        return _resample(x, self.resample_filter, self.direction, self.padding)


class ResampledConv(nn.Conv2d):
    """`Resample`, then a convolution of odd `kernel_size` that keeps the size."""

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, direction: Direction, taps: Sequence[float]) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.direction = direction
        self.filter_padding = (len(taps) - 1) // 2
        self.register_buffer("resample_filter", _filter(taps))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(_resample(input, self.resample_filter, self.direction, self.filter_padding))


class ConvDownsample(nn.Conv2d):
    """A 3x3 convolution, then the filter at every other pixel.

    The convolution is also evaluated outside of the border, as far as the filter reaches; so at the border it differs from
    `ResampledConv`.
    """

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, taps: Sequence[float]) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1 + (len(taps) - 1) // 2)
        self.register_buffer("resample_filter", _filter(taps))

    def forward(self, input: Tensor) -> Tensor:
        return _resample(super().forward(input), self.resample_filter, "down", padding=0)
