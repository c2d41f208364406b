"""A batch of clean images and noise, mixed to noisy images at any noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["NoisyBatch"]


class NoisyBatch(NamedTuple):
    """Clean images with one noise each: x = alpha x0 + sigma eps (paper Eq. 1).

    Fields: x0, clean images, (B, ...); eps, standard normal noise, same shape; cond, keyword arguments of the denoiser such as labels,
    one row an image.
    """

    x0: Tensor
    eps: Tensor
    cond: Mapping[str, Tensor]

    @classmethod
    def on(cls, device: torch.device, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor]) -> Self:
        """Copies a batch to a device, the noise in the images' dtype if that is the wider one."""
        wider = torch.promote_types(x0.dtype, eps.dtype)
        return cls(x0.to(device), eps.to(device, wider), {key: value.to(device) for key, value in cond.items()})

    def at(self, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """Noisy images x = alpha x0 + sigma eps, (B, ...). Args: alpha, sigma: numbers for all images, or tensors with B elements."""
        alpha, sigma = self._like_images(alpha), self._like_images(sigma)
        return alpha * self.x0 + sigma * self.eps

    def _like_images(self, level: Tensor | float) -> Tensor | float:
        if not isinstance(level, Tensor):
            return level
        return level.reshape(-1, *[1] * (self.x0.ndim - 1)).to(self.x0.dtype)
