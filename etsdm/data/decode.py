"""Encoded images to pixels: decode, crop the middle square, resize.

    bytes -> upright, RGB or grey, 8 bits -> middle square of the shorter side -> image_size x image_size

PNG, JPEG and WebP are accepted. Crop and resizing are those of the data set tools of StyleGAN2-ADA and EDM (center-crop; Lanczos is
their filter). An image that has the size already keeps its pixels.

No image is reduced to 8 bits a channel. WebP has 8, and Pillow refuses a JPEG of 12; of a PNG of 16 it keeps the upper 8 without a word,
so these are refused here.
"""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from etsdm.errors import DataError

__all__ = ["EXTENSIONS", "Extension", "Filter", "decode_exact", "decode_resized"]

Filter = Literal["lanczos", "bicubic", "hamming", "bilinear", "box"]
Extension = Literal["png", "jpg", "jpeg", "webp"]
EXTENSIONS: tuple[Extension, ...] = ("png", "jpg", "jpeg", "webp")
PILLOW_FORMATS = ("PNG", "JPEG", "WEBP")
PILLOW_MODES = {1: "L", 3: "RGB"}  # 8-bit pixels by number of channels


def decode_resized(content: bytes, name: str, *, image_size: int, channels: int, filter: Filter) -> Tensor:
    """Decodes an image, crops its middle square and reduces it to one size.

    Args:
        content: an encoded image; of several frames the first is decoded.
        name: of the image, for messages.
        image_size: side of the result in pixels.
        channels: 3 for RGB, 1 for grey (ITU-R 601-2 luma).
        filter: Pillow's resampling filter, with its support scaled to the new pixels (anti-aliased).

    Returns:
        uint8, (channels, image_size, image_size).

    Raises:
        DataError: the content is damaged or of another format, smaller than `image_size`, transparent, or above 8 bits a channel.
    """
    picture = _decode(content, name, channels)
    width, height = picture.size
    if min(width, height) < image_size:
        raise DataError(
            f"{name}: {width}x{height} pixels cannot be reduced to {image_size}x{image_size}; remove it, or give a smaller image_size"
        )
    return _pixels(_resized_square(picture, image_size, filter))


def decode_exact(content: bytes, name: str, *, width: int, height: int, channels: int) -> Tensor:
    """Decodes an image that has the required size already.

    Args:
        content: as for `decode_resized`.
        name: as for `decode_resized`.
        width: in pixels.
        height: in pixels.
        channels: as for `decode_resized`.

    Returns:
        uint8, (channels, height, width).

    Raises:
        DataError: as `decode_resized`, or the size is another one.
    """
    picture = _decode(content, name, channels)
    if picture.size != (width, height):
        found = "x".join(map(str, picture.size))
        raise DataError(f"{name}: is {found} pixels, expected {width}x{height}; give an image of that size")
    return _pixels(picture)


def _decode(content: bytes, name: str, channels: int) -> Image.Image:
    """The image with 8 bits a channel, rotated as its EXIF orientation says."""
    try:
        with Image.open(BytesIO(content), formats=PILLOW_FORMATS) as opened:
            deep = _exceeds_8_bits(opened)
            picture = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError:
        accepted = "a PNG, JPEG or WebP image of 8 bits a channel"
        raise DataError(f"{name}: is not {accepted}, or is damaged; convert it to one, replace or remove it") from None
    except Exception as error:  # each of Pillow's decoders fails in its own ways
        raise DataError(f"{name}: cannot be decoded ({type(error).__name__}: {error}); replace or remove it") from error
    if deep:
        raise DataError(f"{name}: has more than 8 bits a channel; save it with 8")
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{name}: is transparent in places, so its colours there are undefined; save it on a background")
    return picture.convert("RGB").convert(PILLOW_MODES[channels])


def _exceeds_8_bits(opened: ImageFile) -> bool:
    # The raw mode of the PNG decoder, for example RGB;16B, before Pillow has decoded anything.
    return opened.format == "PNG" and "16" in str(opened.tile[0][3])


def _pixels(picture: Image.Image) -> Tensor:
    """uint8, (C, H, W)."""
    return torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)


def _resized_square(picture: Image.Image, size: int, filter: Filter) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    middle = picture.crop((left, top, left + side, top + side))
    return middle if side == size else middle.resize((size, size), Image.Resampling[filter.upper()])
