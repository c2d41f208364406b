"""Tensors as images: 8-bit conversion, grids, PNG, animations."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

from etsdm.errors import IntegrityError
from etsdm.storage.regular import MAX_IMAGE_BYTES, read_regular

__all__ = ["animation_bytes", "image_grid", "png_bytes", "read_sealed_png", "to_pil", "to_uint8"]

PREVIEW_IMAGES = 64  # in the grid of a folder of samples
MIN_SIDE = 32  # pixels; smaller images are enlarged in a grid by a whole factor
MAX_PLAIN_TEXT = 200  # characters; longer text chunks are compressed
PNG_TRAILER = b"\x00\x00\x00\x00IEND\xaeB`\x82"
SEAL_BYTES = 12 + len("sha256") + 1 + 64  # length, type and checksum of a text chunk, keyword, digest
LAST_FRAME_FACTOR = 10  # duration of the last frame relative to the others


def to_uint8(images: Tensor) -> Tensor:
    """Rounds images in [-1, 1] to 8 bits. Args: images: any shape. Returns: uint8, same shape, on the CPU."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()


def to_pil(pixels: Tensor) -> Image.Image:
    """A PIL image, grey or RGB. Args: pixels: uint8, (C, H, W), C = 1 or 3."""
    rows = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)


def image_grid(images: Tensor, columns: int = 8) -> Image.Image:
    """A grid of images; small ones are enlarged by nearest neighbour.

    Args:
        images: (N, C, H, W) in [-1, 1], C = 1 or 3.
        columns: images per row.
    """
    factor = max(1, -(-MIN_SIDE // images.shape[-1]))
    enlarged = images.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    return to_pil(to_uint8(make_grid(enlarged.float().clamp(-1, 1), nrow=columns, padding=2, pad_value=1.0)))


def png_bytes(picture: Image.Image, facts: Mapping[str, str] | None = None) -> bytes:
    """Encodes a PNG, whose last text chunk, `sha256`, is that of all bytes before it.

    Args:
        picture: the image.
        facts: its text chunks, by keyword.
    """
    info = PngInfo()
    for key, value in (facts or {}).items():
        info.add_text(key, value, zip=len(value) > MAX_PLAIN_TEXT)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return _sealed(buffer.getvalue().removesuffix(PNG_TRAILER))


def read_sealed_png(path: Path) -> tuple[dict[str, str], bytes]:
    """Reads and verifies a file of `png_bytes`. Returns: its text chunks, and its content.

    Raises:
        IntegrityError: it is missing, damaged, or was not written by `png_bytes`; the mend is the caller's.
    """
    try:
        content = read_regular(path, MAX_IMAGE_BYTES)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: is missing") from None
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read ({error.strerror})") from None
    if content != _sealed(content[: -SEAL_BYTES - len(PNG_TRAILER)]):
        raise IntegrityError(f"{path}: was changed or damaged: the sha256 of its content is not the recorded one")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            return {str(key): value for key, value in picture.info.items() if isinstance(value, str)}, content
    except Exception as error:  # each of Pillow's decoders fails in its own ways, and the seal is no secret
        raise IntegrityError(f"{path}: cannot be decoded ({type(error).__name__}: {error})") from None


def _sealed(body: bytes) -> bytes:
    chunk = b"tEXtsha256\0" + hashlib.sha256(body).hexdigest().encode()
    return body + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + PNG_TRAILER


def animation_bytes(frames: Sequence[Image.Image], name: str, seconds: float = 4.0) -> bytes:
    """Encodes a looping animation whose last frame lasts longer.

    Args:
        frames: one or more images of one size.
        name: file name, whose suffix is the format: `.gif` or `.webp`.
        seconds: duration of all frames but the last.
    """
    each = max(20, round(1000 * seconds / len(frames)))
    durations = [each] * (len(frames) - 1) + [LAST_FRAME_FACTOR * each]
    first, *rest = (frame.convert("RGB") for frame in frames)
    buffer = io.BytesIO()
    kind = {".gif": "GIF", ".webp": "WEBP"}[Path(name).suffix.lower()]
    # GIF ignores `lossless`.
    first.save(buffer, format=kind, save_all=True, append_images=rest, duration=durations, loop=0, lossless=True)
    return buffer.getvalue()
