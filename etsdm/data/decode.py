"""Encoded images to pixels: decode, crop the middle square, resize.

    bytes -> upright, RGB or grey, 8 bits -> middle square of the shorter side -> image_size x image_size

PNG, JPEG and WebP are accepted. Crop and resizing are those of the data set tools of StyleGAN2-ADA and EDM (center-crop; Lanczos is
their filter). An image that has the size already keeps its pixels.

Of an animation the first frame counts; colour in a grey set is reduced to luma and grey in a colour set repeated; CMYK is converted by
Pillow's formula, and colour profiles are ignored.

No image is reduced to 8 bits a channel. WebP has 8, and Pillow refuses a JPEG of 12; of a PNG of 16 it keeps the upper 8 without a word,
so these are refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from etsdm.errors import DataError

__all__ = ["EXTENSIONS", "Background", "Extension", "Filter", "Resize", "check_header", "decode_exact", "decode_resized"]

Background = Literal["white", "black"]
Filter = Literal["lanczos", "bicubic", "hamming", "bilinear", "box"]
Resize = Literal["center-crop", "lanczos", "area", "none"]
Extension = Literal["png", "jpg", "jpeg", "webp"]
EXTENSIONS: tuple[Extension, ...] = ("png", "jpg", "jpeg", "webp")
PILLOW_FORMATS = ("PNG", "JPEG", "WEBP")
WHOLE: dict[str, Filter] = {"lanczos": "lanczos", "area": "box"}  # filters of the whole image
DRAFT_MARGIN = 2  # a JPEG is decoded at a fraction that has so many times the needed pixels a side
PILLOW_MODES = {1: "L", 3: "RGB"}  # 8-bit pixels by number of channels


def decode_resized(
    content: bytes,
    name: str,
    *,
    image_size: int,
    channels: int,
    filter: Filter,
    resize: Resize = "center-crop",
    background: Background | None = None,
    draft: bool = False,
    crop: Sequence[float] | None = None,
) -> Tensor:
    """Decodes an image and reduces it to one size.

    Args:
        content: an encoded image; of several frames the first is decoded.
        name: of the image, for messages.
        image_size: side of the result in pixels.
        channels: 3 for RGB, 1 for grey (ITU-R 601-2 luma).
        filter: Pillow's resampling filter, with its support scaled to the new pixels (anti-aliased).
        resize: `center-crop` for the middle square; `lanczos` or `area` for the whole image, by that filter, whatever its aspect ratio;
            `none` for images that have the size.
        background: colour behind transparent pixels; None refuses them.
        draft: decodes a JPEG at a half, a quarter or an eighth of its size, where that is at least twice `image_size` a side.
        crop: another square than the middle one; see `etsdm.data.augmentation.Draws`.

    Returns:
        uint8, (channels, image_size, image_size).

    Raises:
        DataError: the content is damaged or of another format, smaller than `image_size` or for `none` of another size, transparent, or
            above 8 bits a channel.
    """
    smallest = DRAFT_MARGIN * image_size if draft else None
    picture = _decode(content, name, channels, background, ", or set data.background=white", smallest)
    _check_size(picture, name, image_size, resize)
    if resize in WHOLE and crop is None:
        size = (image_size, image_size)
        return _pixels(picture if picture.size == size else picture.resize(size, Image.Resampling[WHOLE[resize].upper()]))
    return _pixels(_resized_square(picture, image_size, filter, crop))


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


def check_header(stream: IO[bytes], name: str, *, image_size: int, resize: Resize = "center-crop") -> None:
    """Reads the header of an image and decodes no pixel.

    Args:
        stream: an encoded image.
        name: as for `decode_resized`.
        image_size, resize: as for `decode_resized`.

    Raises:
        DataError: the header is damaged or of another format, or says less than `image_size` pixels or for `none` another size, or above
            8 bits a channel.
    """
    with _named_faults(name), Image.open(stream, formats=PILLOW_FORMATS) as opened:
        _refuse_deep(opened, name)
        _check_size(opened, name, image_size, resize)


def _decode(
    content: bytes, name: str, channels: int, background: Background | None = None, mend: str = "", smallest: int | None = None
) -> Image.Image:
    """The image with 8 bits a channel, rotated as its EXIF orientation says.

    Args:
        mend: another mend of transparent pixels.
        smallest: shorter side in pixels that a JPEG may be decoded at; None for all pixels.
    """
    with _named_faults(name), Image.open(BytesIO(content), formats=PILLOW_FORMATS) as opened:
        _refuse_deep(opened, name)
        if smallest is not None:
            opened.draft(None, (smallest, smallest))
        opened.load()
        picture: Image.Image = opened
        if opened.getexif():
            picture = ImageOps.exif_transpose(opened)
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        if background is not None:
            picture = Image.alpha_composite(Image.new("RGBA", layers.size, background), layers)
        elif layers.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{name}: is transparent in places, so its colours there are undefined; save it on a background{mend}")
    for mode in ("RGB", PILLOW_MODES[channels]):
        picture = picture if picture.mode == mode else picture.convert(mode)
    return picture


@contextmanager
def _named_faults(name: str) -> Iterator[None]:
    """Raises DataError, which names the image, for all errors of Pillow."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        accepted = "a PNG, JPEG or WebP image of 8 bits a channel"
        raise DataError(f"{name}: is not {accepted}, or is damaged; convert it to one, replace or remove it") from None
    except Exception as error:  # each of Pillow's decoders fails in its own ways
        raise DataError(f"{name}: cannot be decoded ({type(error).__name__}: {error}); replace or remove it") from error


def _refuse_deep(opened: ImageFile, name: str) -> None:
    # The raw mode of the PNG decoder, for example RGB;16B, before Pillow has decoded anything.
    if opened.format == "PNG" and "16" in str(opened.tile[0][3]):
        raise DataError(f"{name}: has more than 8 bits a channel; save it with 8")


def _check_size(picture: Image.Image, name: str, image_size: int, resize: Resize) -> None:
    width, height = picture.size
    if resize == "none" and (width, height) != (image_size, image_size):
        raise DataError(
            f"{name}: is {width}x{height} pixels, not {image_size}x{image_size}; remove it, or set data.resize=center-crop, lanczos or area"
        )
    if min(width, height) < image_size:
        raise DataError(
            f"{name}: {width}x{height} pixels cannot be reduced to {image_size}x{image_size}; remove it, or give a smaller image_size"
        )


def _pixels(picture: Image.Image) -> Tensor:
    """uint8, (C, H, W), a view of (H, W, C)."""
    return torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)


def _resized_square(picture: Image.Image, size: int, filter: Filter, crop: Sequence[float] | None) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if crop is not None:
        share, across, down = crop
        side = max(size, round(share * side))
        left, top = round(across * (width - side)), round(down * (height - side))
    square = picture if (width, height) == (side, side) else picture.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), Image.Resampling[filter.upper()])
