"""How an image becomes a square of the wanted size: `resize`, `draft` and the refusals, against Pillow and block means."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from etsdm.data import ImageFolder
from etsdm.data.decode import check_header, decode_resized
from etsdm.errors import DataError, EtsdmError
from etsdm.registry import datasets


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, format="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def read(content, **changes):
    return decode_resized(content, "a.png", **{"image_size": 8, "channels": 1, "filter": "lanczos", **changes}).numpy()


def test_area_is_the_mean_over_blocks_of_the_whole_image():
    pixels = noise(16, 32) // 8 * 8  # whole means over 2x4 blocks
    expected = np.round(pixels.reshape(8, 2, 8, 4).astype(float).mean((1, 3)))
    assert np.abs(read(encoded(pixels), resize="area")[0] - expected).max() <= 1


def test_lanczos_of_the_whole_image_is_pillows():
    pixels = noise(24, 40)
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.LANCZOS))
    assert np.array_equal(read(encoded(pixels), resize="lanczos")[0], expected)


@pytest.mark.parametrize("resize", ["center-crop", "lanczos", "area", "none"])
def test_an_image_of_the_size_keeps_every_pixel(resize):
    pixels = noise(8, 8)
    assert np.array_equal(read(encoded(pixels), resize=resize)[0], pixels)


@pytest.mark.parametrize("shape", [(8, 9), (16, 16), (7, 8)])
def test_none_takes_images_of_the_size_alone(shape):
    content = encoded(noise(*shape))
    for use in (read, lambda content, **resize: check_header(io.BytesIO(content), "a.png", image_size=8, **resize)):
        with pytest.raises(DataError, match=rf"^a\.png: is {shape[1]}x{shape[0]} pixels, not 8x8; remove it, or set data\.resize="):
            use(content, resize="none")


def test_a_draft_is_the_half_quarter_or_eighth_with_twice_the_pixels():
    smooth = np.outer(np.linspace(0, 255, 96), np.ones(80)).astype(np.uint8)
    content = encoded(smooth, "JPEG", quality=95)
    with Image.open(io.BytesIO(content)) as opened:
        opened.draft(None, (16, 16))
        assert opened.size == (20, 24)  # a quarter; an eighth has fewer than 16 pixels
        drafted = opened.convert("L").crop((0, 2, 20, 22)).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(read(content, draft=True)[0], np.asarray(drafted))
    assert 0 < np.abs(read(content, draft=True).astype(int) - read(content)).max() <= 4
    assert np.array_equal(read(encoded(smooth), draft=True), read(encoded(smooth)))  # of a JPEG alone


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"^a\.png: cannot be decoded \(DecompressionBombError: .*; replace or remove it$"):
        read(bomb)


def test_files_are_found_whatever_the_bytes_of_their_names(tmp_path):
    name = b"caf\xe9.png"  # Latin-1, no UTF-8
    try:
        with open(bytes(tmp_path) + b"/" + name, "wb") as file:
            file.write(encoded(noise(8, 8)))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    images = ImageFolder(path=str(tmp_path), image_size=8, channels=1, held_out=0).open("train")
    assert np.array_equal(images.read([0])[0][0, 0], noise(8, 8))
    assert len(images.digest()) == 64
    (tmp_path / "bad.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"bad\.png"):
        list(images.dataset.check_files())


def test_a_filter_is_of_the_middle_square_alone(tmp_path):
    with pytest.raises(EtsdmError, match=r"filter: is of center-crop, and resize is 'area'; leave it out"):
        datasets.create("image-folder", path=str(tmp_path), image_size=8, resize="area", filter="box")


def test_how_images_are_read_is_in_their_digest(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise(8, 8)))
    made = [{}, {"resize": "area"}, {"resize": "none"}, {"draft": True}]
    data = [ImageFolder(path=str(tmp_path), image_size=8, channels=1, held_out=0, **fields) for fields in made]
    assert len({one.open("train").digest() for one in data}) == 4
