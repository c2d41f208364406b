"""An image file as pixels: decoded, cropped to its middle square, and reduced.

    file -> upright, RGB or grey, 8 bits -> middle square of the shorter side -> image_size x image_size

Crop and reduction are those of the data set tools of StyleGAN2-ADA and EDM (center-crop; Lanczos is their filter). An image that
has the size already keeps its pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from etsdm.data.bit_depth import exceeds_8_bits
from etsdm.errors import DataError

__all__ = ["Filter", "read_image", "read_whole_image"]

Filter = Literal["lanczos", "bicubic", "hamming", "bilinear", "box"]
MODES = {1: "L", 3: "RGB"}  # Pillow's name for 8-bit pixels of that many channels


def read_image(file: Path, *, image_size: int, channels: int, filter: Filter) -> Tensor:
    """Reads one image as a square of one size.

    Args:
        file: of any format that Pillow knows; of several frames the first is read.
        image_size: side of the result in pixels.
        channels: 3 for RGB, 1 for grey (ITU-R 601-2 luma).
        filter: Pillow's filter for reducing; it covers the whole of each new pixel.

    Returns:
        uint8, (channels, image_size, image_size).

    Raises:
        DataError: the file is not a whole image, is smaller than asked for, is transparent, or has more than 8 bits a channel.
    """
    picture = _decoded(file, channels)
    width, height = picture.size
    if min(width, height) < image_size:
        raise DataError(
            f"{file}: {width}x{height} pixels cannot be reduced to {image_size}x{image_size}; remove it, or give a smaller image_size"
        )
    return _pixels(_square(picture, image_size, filter))


def read_whole_image(file: Path, *, width: int, height: int, channels: int) -> Tensor:
    """Reads one image that has the size already.

    Args:
        file: as for `read_image`.
        width: in pixels.
        height: in pixels.
        channels: as for `read_image`.

    Returns:
        uint8, (channels, height, width).

    Raises:
        DataError: as `read_image`, or the size is another one.
    """
    picture = _decoded(file, channels)
    if picture.size != (width, height):
        found = "x".join(map(str, picture.size))
        raise DataError(f"{file}: is {found}, but images of {width}x{height} are read; give those")
    return _pixels(picture)


def _decoded(file: Path, channels: int) -> Image.Image:
    """The image in 8 bits a channel, turned as its EXIF data says."""
    try:
        with Image.open(file) as opened:
            deep = exceeds_8_bits(file, opened)
            picture = ImageOps.exif_transpose(opened)
    except Exception as error:  # each of Pillow's formats fails in its own ways
        raise DataError(f"{file}: cannot be read as an image ({type(error).__name__}: {error}); replace or remove it") from error
    if deep:
        raise DataError(f"{file}: has more than 8 bits a channel; save it with 8")
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{file}: is transparent in places, so its colours there are undefined; save it on a background")
    return picture.convert("RGB").convert(MODES[channels])


def _pixels(picture: Image.Image) -> Tensor:
    """uint8, (C, H, W)."""
    return torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)


def _square(picture: Image.Image, size: int, filter: Filter) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    middle = picture.crop((left, top, left + side, top + side))
    return middle if side == size else middle.resize((size, size), Image.Resampling[filter.upper()])
