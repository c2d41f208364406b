"""Super-resolution: a denoiser that is told a small image (Saharia et al. 2021).

The small image, enlarged to the size of the noisy one, is given to the network as more channels of its input.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from etsdm.registry import Frozen

__all__ = ["SuperResolution"]


class SuperResolution(Frozen):
    """How much larger an image is made, and how small images are made and enlarged.

    Attributes:
        factor: height and width of an image over those of the small one.
        filter: of reducing, with antialiasing, and of enlarging. The paper does not name its filter: `bicubic` is our choice;
            guided-diffusion's upsamplers enlarge by `bilinear`.
    """

    factor: int = Field(4, ge=2)
    filter: Literal["bicubic", "bilinear"] = "bicubic"

    def reduce(self, images: Tensor) -> Tensor:
        """The small images of large ones. Args: images: (B, C, H, W). Returns: (B, C, H / factor, W / factor), in [-1, 1]."""
        size = images.shape[2] // self.factor, images.shape[3] // self.factor
        return interpolate(images, size=size, mode=self.filter, antialias=True, align_corners=False).clamp(-1, 1)

    def enlarge(self, low_res: Tensor, x: Tensor) -> Tensor:
        """Small images at the size of large ones.

        Args:
            low_res: (B, C, H / factor, W / factor).
            x: images of the size that is wanted, (B, C, H, W).

        Returns:
            (B, C, H, W), in the dtype and on the device of x.

        Raises:
            ValueError: the small images do not belong to images of that size.
        """
        batch, channels, height, width = x.shape
        wanted = batch, channels, height // self.factor, width // self.factor
        if low_res.shape != wanted:
            raise ValueError(f"low_res: its shape is {tuple(low_res.shape)}; give {wanted}")
        return interpolate(low_res.to(x), size=(height, width), mode=self.filter, align_corners=False)
