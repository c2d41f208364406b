"""Tensors as pictures."""

from __future__ import annotations

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

__all__ = ["image_grid", "png_bytes"]

SMALLEST_SIDE = 32  # pixels that an image takes at least in a grid; smaller ones are enlarged by a whole factor


def image_grid(images: Tensor, columns: int = 8) -> Image.Image:
    """Puts images side by side, small ones enlarged without smoothing.

    Args:
        images: (N, C, H, W) in [-1, 1], C = 1 or 3.
        columns: images in a row.
    """
    factor = max(1, -(-SMALLEST_SIDE // images.shape[-1]))
    enlarged = images.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    grid = make_grid(enlarged.float().clamp(-1, 1), nrow=columns, padding=2, pad_value=1.0)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(pixels)


def png_bytes(picture: Image.Image, facts: dict[str, str] | None = None) -> bytes:
    """A picture as PNG, with facts in its text chunks."""
    info = PngInfo()
    for key, value in (facts or {}).items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()
