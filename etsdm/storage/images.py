"""Tensors as pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

__all__ = ["animation_bytes", "image_grid", "png_bytes", "to_pil", "to_uint8"]

PREVIEW = 64  # images in the grid of a folder of samples
SMALLEST_SIDE = 32  # pixels that an image takes at least in a grid; smaller ones are enlarged by a whole factor
LONGEST_PLAIN_TEXT = 200  # characters; longer facts are compressed in the file
LAST_FRAME = 10  # times as long as the others


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as the nearest of 256 levels. Args: images: any shape. Returns: uint8, same shape, on the CPU."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()


def to_pil(pixels: Tensor) -> Image.Image:
    """One image. Args: pixels: uint8, (C, H, W), C = 1 or 3."""
    rows = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)


def image_grid(images: Tensor, columns: int = 8) -> Image.Image:
    """Puts images side by side, small ones enlarged without smoothing.

    Args:
        images: (N, C, H, W) in [-1, 1], C = 1 or 3.
        columns: images in a row.
    """
    factor = max(1, -(-SMALLEST_SIDE // images.shape[-1]))
    enlarged = images.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    return to_pil(to_uint8(make_grid(enlarged.float().clamp(-1, 1), nrow=columns, padding=2, pad_value=1.0)))


def png_bytes(picture: Image.Image, facts: Mapping[str, str] | None = None) -> bytes:
    """A picture as PNG, with facts in its text chunks."""
    info = PngInfo()
    for key, value in (facts or {}).items():
        info.add_text(key, value, zip=len(value) > LONGEST_PLAIN_TEXT)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def animation_bytes(frames: Sequence[Image.Image], name: str, seconds: float = 4.0) -> bytes:
    """Pictures one after another, again and again, the last one longer.

    Args:
        frames: of one size, one or more.
        name: of the file; its ending says the format, `.gif` or `.webp`.
        seconds: how long all but the last take together.
    """
    each = max(20, round(1000 * seconds / len(frames)))
    durations = [each] * (len(frames) - 1) + [LAST_FRAME * each]
    first, *rest = (frame.convert("RGB") for frame in frames)
    buffer = io.BytesIO()
    kind = {".gif": "GIF", ".webp": "WEBP"}[Path(name).suffix.lower()]
    # `lossless` is WebP's alone, and GIF leaves it out of account.
    first.save(buffer, format=kind, save_all=True, append_images=rest, duration=durations, loop=0, lossless=True)
    return buffer.getvalue()
