"""Whether an image file has more than 8 bits a channel.

Pillow says so by its mode for grey images alone. Colours of 16 bits it decodes to their upper 8 without a word, so the depth is
read from the header here:

    PNG         bit depth in IHDR, 16 bytes after its name                          (ISO/IEC 15948)
    TIFF        BitsPerSample, one for each channel                                 (TIFF 6.0)
    JPEG 2000   Ssiz of each component in the codestream's SIZ: depth - 1, and sign (ISO/IEC 15444-1, A.5.1)
    AVIF        high_bitdepth in the configuration box av1C                         (AV1 in ISOBMFF, 2.3.3)
    PPM         the largest value
    SGI         bytes a channel

Of JPEG, WebP, GIF and BMP Pillow reads nothing deeper.
"""

from __future__ import annotations

from pathlib import Path

from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

__all__ = ["exceeds_8_bits"]

SIZ = b"\xff\x4f\xff\x51"  # start of a codestream, and the marker of its first segment
COMPONENTS = 40  # from there to the number of components, two bytes; then follow three bytes for each, the first of them Ssiz
AV1C = b"av1C\x81"  # name, and marker and version; the next byte is the profile, and then come the flags
HIGH_BITDEPTH = 0x40


def exceeds_8_bits(file: Path, opened: ImageFile) -> bool:
    """Whether a channel has more bits than 8.

    Args:
        file: the image file.
        opened: what Pillow opened of it and has not decoded yet.
    """
    if opened.mode.startswith(("I", "F")):
        return True
    if isinstance(opened, TiffImageFile):
        return any(bits > 8 for bits in opened.tag_v2.get(BITSPERSAMPLE, ()))
    match opened.format:
        case "PNG":
            return _head(file, 25)[24] > 8
        case "JPEG2000":
            codestream = _from(file, SIZ)
            count = int.from_bytes(codestream[COMPONENTS : COMPONENTS + 2])
            return any(depth & 0x7F > 7 for depth in codestream[COMPONENTS + 2 :: 3][:count])
        case "AVIF":
            return bool(_from(file, AV1C)[len(AV1C) + 1] & HIGH_BITDEPTH)
        case "PPM":
            asked = opened.tile[0][3]  # of Pillow's decoder; with the largest value where that is not 255
            return isinstance(asked, tuple) and asked[-1] > 255
        case "SGI":
            return _head(file, 4)[3] > 1
    return False


def _head(file: Path, size: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(size)


def _from(file: Path, start: bytes) -> bytes:
    content = file.read_bytes()
    return content[content.index(start) :]
