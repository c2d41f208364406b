"""Super-resolution: denoising conditioned on a low-resolution image (Saharia et al. 2021).

The low-resolution image, enlarged to the size of the noisy one, is concatenated to the network's input.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from etsdm.registry import Frozen
from etsdm.registry.counts import ImageSize

__all__ = ["SuperResolution"]


class SuperResolution(Frozen):
    """Factor and filter of super-resolution.

    Attributes:
        factor: height and width of an image over those of the low-resolution one.
        filter: of reducing, with antialiasing, and of enlarging. The paper does not name its filter: `bicubic` is our choice;
            guided-diffusion's upsamplers enlarge by `bilinear`.
    """

    factor: ImageSize = Field(4, ge=2)
    filter: Literal["bicubic", "bilinear"] = "bicubic"

    def reduce(self, images: Tensor) -> Tensor:
        """Low-resolution versions of images. Args: images: (B, C, H, W). Returns: (B, C, H / factor, W / factor), in [-1, 1]."""
        size = images.shape[2] // self.factor, images.shape[3] // self.factor
        return interpolate(images, size=size, mode=self.filter, antialias=True, align_corners=False).clamp(-1, 1)

    def enlarge(self, low_res: Tensor, x: Tensor) -> Tensor:
        """Enlarges low-resolution images to the size of x.

        Args:
            low_res: (B, C, H / factor, W / factor).
            x: noisy images, (B, C, H, W).

        Returns:
            (B, C, H, W), in the dtype and on the device of x.

        Raises:
            ValueError: the shape of `low_res` does not fit that of x.
        """
        batch, channels, height, width = x.shape
        wanted = batch, channels, height // self.factor, width // self.factor
        if low_res.shape != wanted:
            raise ValueError(f"low_res: its shape is {tuple(low_res.shape)}; give {wanted}")
        return interpolate(low_res.to(x), size=(height, width), mode=self.filter, align_corners=False)
