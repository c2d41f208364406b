"""Files of 8 and of 16 bits a channel in the formats that Pillow reduces without a word, written here by their specifications."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from etsdm.data.bit_depth import exceeds_8_bits
from etsdm.data.decoding import read_image
from etsdm.errors import DataError

SIZE = 8
# 8 x 8 pixels of 10 bits, written by libavif 1.4.0 through imagecodecs 2026.3.6.
DEEP_AVIF = """
AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9j
AAAAAEQAAAEAAQAAAAEAAAETAAAAJAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgA
AAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAALG1kYXQSAAoIOAi/bwICBpAyFhlCYwTAADQY
AACQP8zdtOmDP/T+F6A=
"""


def png(bits, colour_type, channels):
    """ISO/IEC 15948: signature, then chunks of length, name, content and CRC; a filter byte before each row."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = b"\0" + bytes(range(SIZE * channels * bits // 8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * SIZE)) + chunk(b"IEND", b"")


def tiff(bits, planes):
    """TIFF 6.0, section 6: header, pixels, the directory, and behind it the arrays of three values that it points to.

    Args:
        planes: 1 for channels side by side, 2 for one after another.
    """
    pixels = bytes(SIZE * SIZE * 3 * bits // 8)
    directory, entries = 8 + len(pixels), 9
    behind = directory + 2 + 12 * entries + 4
    strips = [8 + i * len(pixels) // 3 for i in range(3)] if planes == 2 else [8]
    arrays = struct.pack("<HHH", bits, bits, bits) + struct.pack("<III", *(strips * 3)[:3]) + struct.pack("<III", *[len(pixels) // 3] * 3)
    offsets, counts = ((3, behind + 6), (3, behind + 18)) if planes == 2 else ((1, 8), (1, len(pixels)))
    # Width, length, BitsPerSample, compression, RGB; StripOffsets, SamplesPerPixel, StripByteCounts, PlanarConfiguration.
    short, long = 3, 4
    table = [(256, short, 1, SIZE), (257, short, 1, SIZE), (258, short, 3, behind), (259, short, 1, 1), (262, short, 1, 2)]
    table += [(273, long, *offsets), (277, short, 1, 3), (279, long, *counts), (284, short, 1, planes)]
    return (
        struct.pack("<2sHI", b"II", 42, directory)
        + pixels
        + struct.pack("<H", entries)
        + b"".join(struct.pack("<HHII", *entry) for entry in table)
        + struct.pack("<I", 0)
        + arrays
    )


def saved(format, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, (SIZE, SIZE)).save(buffer, format, **options)
    return buffer.getvalue()


def jpeg_2000(bits):
    """Pillow's file, whose SIZ segment (ISO/IEC 15444-1, A.5.1) is made to speak of another depth of the last component."""
    content = bytearray(saved("JPEG2000"))
    siz = content.index(b"\xff\x51")
    assert content[siz + 40] == 7  # Ssiz of component 0: marker, length, capabilities, eight numbers of four bytes, their count
    content[siz + 40 + 6] = bits - 1
    return bytes(content)


def avif(bits):
    return saved("AVIF") if bits == 8 else base64.b64decode(DEEP_AVIF)


def netpbm(bits):
    return b"P6 8 8 %d\n" % (2**bits - 1) + bytes(SIZE * SIZE * 3 * bits // 8)


FILES = {
    "PNG of colours": lambda bits: png(bits, 2, 3),
    "PNG of colours with alpha": lambda bits: png(bits, 6, 4),
    "grey PNG": lambda bits: png(bits, 0, 1),
    "grey PNG with alpha": lambda bits: png(bits, 4, 2),
    "TIFF": lambda bits: tiff(bits, 1),
    "TIFF in planes": lambda bits: tiff(bits, 2),
    "JPEG 2000": jpeg_2000,
    "AVIF": avif,
    "PPM": netpbm,
    "SGI": lambda bits: saved("SGI", "L", bpc=bits // 8),
}
NEEDED = {"JPEG 2000": "jpg_2000", "AVIF": "avif"}  # what Pillow may be built without


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", FILES)
def test_the_depth_of_a_file_is_seen_where_pillow_hides_it(tmp_path, kind, bits):
    if kind in NEEDED and not features.check(NEEDED[kind]):
        pytest.skip(f"Pillow is built without {kind}")
    file = tmp_path / "picture"
    file.write_bytes(FILES[kind](bits))
    with Image.open(file) as opened:
        assert exceeds_8_bits(file, opened) is (bits == 16)


@pytest.mark.parametrize("bits", [8, 16])
def test_only_colours_of_8_bits_are_read(tmp_path, bits):
    file = tmp_path / "picture.png"
    file.write_bytes(png(bits, 2, 3))
    if bits == 8:
        row = np.arange(SIZE * 3).reshape(SIZE, 3).T
        assert np.array_equal(read_image(file, image_size=SIZE, channels=3, filter="box"), np.stack([row] * SIZE, axis=1))
        return
    with pytest.raises(DataError) as error:
        read_image(file, image_size=SIZE, channels=3, filter="box")
    assert str(error.value) == f"{file}: has more than 8 bits a channel; save it with 8"


def test_pillow_keeps_the_upper_byte_of_deep_colours(tmp_path):
    # Why all this is needed: the first pixel is 0x0001, 0x0203, 0x0405.
    with Image.open(io.BytesIO(png(16, 2, 3))) as opened:
        assert opened.mode == "RGB"
        assert np.array_equal(np.asarray(opened)[0, 0], [0, 2, 4])


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF", "BMP"])
def test_formats_that_have_8_bits_at_most_are_let_through(tmp_path, format):
    file = tmp_path / "picture"
    file.write_bytes(saved(format))
    with Image.open(file) as opened:
        assert not exceeds_8_bits(file, opened)
