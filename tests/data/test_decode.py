"""Encoded images of known pixels, and their decoded pixels."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from etsdm.data.decode import decode_exact, decode_resized
from etsdm.errors import DataError


def noise(*shape, seed=0):
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def read(file, size=8, channels=3, filter="lanczos", background=None):
    fields = {"image_size": size, "channels": channels, "filter": filter, "background": background}
    return decode_resized(file.read_bytes(), file.name, **fields).numpy()


@pytest.fixture
def save(tmp_path):
    def save(picture, name="picture.png", **options):
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True})])
def test_an_image_of_the_right_size_keeps_every_pixel(save, name, options):
    pixels = noise(8, 8, 3)
    found = read(save(pixels, name, **options))
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


def test_a_jpeg_is_decoded_as_pillow_decodes_it(save):
    file = save(noise(8, 8, 3), "a.jpg", quality=90)
    with Image.open(file) as picture:
        assert np.array_equal(read(file), np.asarray(picture).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"), [(8, 13, (0, 8), (2, 10)), (13, 8, (2, 10), (0, 8)), (8, 9, (0, 8), (0, 8))]
)
def test_the_middle_square_is_kept(save, height, width, rows, columns):
    # The first row or column is half the difference, rounded down, as in EDM's and StyleGAN2-ADA's center_crop.
    pixels = noise(height, width, 3)
    assert np.array_equal(read(save(pixels)), pixels[slice(*rows), slice(*columns)].transpose(2, 0, 1))


def test_the_box_filter_is_the_mean_over_blocks(save):
    # Multiples of 4 have whole means over 2x2 blocks.
    pixels = noise(16, 16, 3) // 4 * 4
    expected = pixels.reshape(8, 2, 8, 2, 3).astype(int).sum((1, 3)) // 4
    assert np.array_equal(read(save(pixels), filter="box"), expected.transpose(2, 0, 1))


def test_lanczos_reduces_by_its_kernel(save):
    # One row of pixels, reduced by two: weights sinc(x) sinc(x / 3), x in new pixels, over three of them to either side.
    row = noise(64)
    centre = 2 * 16 + 1
    x = (np.arange(64) + 0.5 - centre) / 2
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    expected = np.clip(weights @ row / weights.sum(), 0, 255)
    found = read(save(np.tile(row, (64, 1))), size=32, channels=1)
    assert found[0, 5, 16] == pytest.approx(expected, abs=1)  # Pillow's weights have 22 bits, and it rounds twice


def test_reducing_averages_over_all_pixels_so_that_fine_stripes_become_grey(save):
    # Stripes of single pixels: sampling without a low-pass would give 0 or 255.
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    for filter in ("lanczos", "bicubic", "hamming", "bilinear", "box"):
        middle = read(save(stripes), filter=filter)[:, 2:-2, 2:-2]
        assert np.abs(middle.astype(int) - 127.5).max() < 4


def test_a_grey_image_has_three_equal_channels(save):
    pixels = noise(8, 8)
    assert np.array_equal(read(save(pixels)), np.stack([pixels] * 3))


def test_a_grey_image_stays_as_it_is_in_one_channel(save):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)  # every level once
    assert np.array_equal(read(save(pixels), size=16, channels=1), pixels[None])


def test_grey_of_colours_is_their_luma(save):
    pixels = noise(8, 8, 3)
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    expected = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read(save(pixels), channels=1)[0] - expected).max() <= 0.51


def test_a_palette_and_two_levels_become_their_colours(save):
    pixels = np.array([[[255, 0, 0], [0, 128, 255]], [[7, 8, 9], [255, 0, 0]]], dtype=np.uint8)
    palette = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE, colors=3)
    assert palette.mode == "P"
    assert np.array_equal(read(save(palette), size=2), pixels.transpose(2, 0, 1))
    levels = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert np.array_equal(read(save(levels), size=2, channels=1), [[[0, 255], [255, 0]]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_channel_does_no_harm(save, mode):
    pixels = noise(8, 8, 3)
    plain = Image.fromarray(pixels).convert(mode[:-1])
    opaque = plain.copy()
    opaque.putalpha(255)
    assert opaque.mode == mode
    assert np.array_equal(read(save(opaque)), np.asarray(plain.convert("RGB")).transpose(2, 0, 1))


def test_a_transparent_image_is_refused(save):
    pixels = noise(8, 8, 4) | np.array([0, 0, 0, 255], dtype=np.uint8)
    pixels[3, 3, 3] = 254
    file = save(pixels)
    with pytest.raises(DataError, match=r"picture.png: is transparent in places, .* a background, or set data\.background=white$"):
        read(file)


def test_a_transparent_colour_of_a_palette_is_refused(save):
    palette = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    file = save(palette, transparency=5)
    with pytest.raises(DataError, match="is transparent in places"):
        read(file)


@pytest.mark.parametrize(("background", "level"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparent_pixels_show_the_background(save, name, background, level):
    # alpha c + (1 - alpha) b: all of the background at 0, none at 255, half of each at 51 * 2.5
    pixels = np.full((8, 8, 4), (100, 40, 200, 255), dtype=np.uint8)
    pixels[0, 0, 3], pixels[0, 1, 3] = 0, 102
    found = read(save(pixels, name, **({"lossless": True, "exact": True} if name == "a.webp" else {})), background=background)
    assert found[:, 0, 0].tolist() == [level] * 3
    assert found[:, 0, 1] == pytest.approx(0.4 * np.array([100, 40, 200]) + 0.6 * level, abs=1)
    assert found[:, 1:].reshape(3, -1).T.tolist() == [[100, 40, 200]] * 56


def test_a_transparent_colour_of_a_palette_shows_the_background(save):
    palette = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    assert read(save(palette, transparency=5), background="white")[:, 0, 5].tolist() == [255] * 3


def test_a_background_changes_no_opaque_image(save):
    file = save(noise(8, 8, 3))
    assert np.array_equal(read(file), read(file, background="white"))


def test_a_picture_that_was_taken_sideways_stands_upright(save):
    pixels = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation 6 of EXIF: the first row is the right-hand side
    file = save(pixels, exif=exif)
    assert np.array_equal(read(file), np.rot90(pixels, -1).transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 7), (4, 300)])
def test_a_smaller_image_is_refused_with_its_size(save, height, width):
    file = save(noise(height, width, 3))
    with pytest.raises(DataError) as error:
        read(file)
    assert str(error.value) == f"picture.png: {width}x{height} pixels cannot be reduced to 8x8; remove it, or give a smaller image_size"


def exact(file, **size):
    return decode_exact(file.read_bytes(), file.name, **size).numpy()


def test_an_image_of_the_exact_size_keeps_its_shape_and_every_pixel(save):
    pixels = noise(5, 7, 3)
    assert np.array_equal(exact(save(pixels), width=7, height=5, channels=3), pixels.transpose(2, 0, 1))
    grey = noise(5, 7)
    assert np.array_equal(exact(save(grey), width=7, height=5, channels=1), grey[None])


@pytest.mark.parametrize(("width", "height"), [(5, 7), (6, 5), (8, 5)])
def test_an_image_of_another_than_the_exact_size_is_refused_with_both(save, width, height):
    with pytest.raises(DataError, match=rf"^picture.png: is 7x5 pixels, expected {width}x{height}; give"):
        exact(save(noise(5, 7, 3)), width=width, height=height, channels=3)


def encoded(format, mode=None, **options):
    buffer = io.BytesIO()
    picture = Image.fromarray(noise(12, 12, 3)) if mode is None else Image.new(mode, (12, 12))
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def decode(content):
    return decode_resized(content, "cats/1", image_size=8, channels=3, filter="box").numpy()


def test_what_is_no_image_is_refused_by_the_name_that_was_given():
    with pytest.raises(DataError, match=r"^cats/1: is not a PNG, JPEG or WebP image .*; convert it"):
        decode(b"no image")


@pytest.mark.parametrize("format", ["TIFF", "GIF", "BMP", "PPM", "SGI", "JPEG2000", "AVIF"])
def test_another_format_is_refused_with_those_that_are_accepted(format):
    needed = {"JPEG2000": "jpg_2000", "AVIF": "avif"}
    if format in needed and not features.check(needed[format]):
        pytest.skip(f"Pillow is built without {format}")
    with pytest.raises(DataError, match=r"^cats/1: is not a PNG, JPEG or WebP image"):
        decode(encoded(format))


def png(bits, colour_type, channels, before=b""):
    """ISO/IEC 15948: signature, then chunks of length, name, content and CRC; a filter byte before each row of 8 pixels."""
    row = b"\0" + bytes(range(8 * channels * bits // 8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + before + header + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize(
    ("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "colours", "grey with alpha", "colours with alpha"]
)
# The second is not allowed by the standard; Pillow reads it all the same.
@pytest.mark.parametrize("before", [b"", chunk(b"prIv", b"16 bits")], ids=["", "behind another chunk"])
def test_a_png_of_16_bits_a_channel_is_refused(colour_type, channels, before):
    with pytest.raises(DataError, match=r"^cats/1: .* 8 .*; save it with 8$"):
        decode(png(16, colour_type, channels, before))


@pytest.mark.parametrize("before", [b"", chunk(b"prIv", b"16 bits")])
def test_a_png_of_8_bits_a_channel_is_decoded(before):
    row = np.arange(8 * 3).reshape(8, 3).T
    assert np.array_equal(decode(png(8, 2, 3, before)), np.stack([row] * 8, axis=1))


def test_pillow_keeps_the_upper_byte_of_a_deep_png_without_a_word():
    # Why it is refused: the first pixel is 0x0001, 0x0203, 0x0405.
    with Image.open(io.BytesIO(png(16, 2, 3))) as opened:
        assert opened.mode == "RGB"
        assert np.array_equal(np.asarray(opened)[0, 0], [0, 2, 4])


def test_a_jpeg_of_12_bits_a_channel_is_refused():
    content = bytearray(encoded("JPEG"))
    precision = content.index(b"\xff\xc0") + 4  # of the samples, in the frame header SOF0 (ISO/IEC 10918-1, B.2.2)
    assert content[precision] == 8
    content[precision] = 12
    with pytest.raises(DataError, match=r"^cats/1: is not a PNG, JPEG or WebP image of 8 bits a channel"):
        decode(bytes(content))


def test_inks_become_colours():
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow
    buffer = io.BytesIO()
    inks.save(buffer, "JPEG", quality=100)
    assert np.abs(decode(buffer.getvalue())[:, 0, 0] - np.array([255, 0, 0])).max() <= 2


def test_of_several_frames_the_first_is_decoded():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("PNG", "WEBP", "MPO"):  # MPO: several JPEG images in one file, as cameras write them
        buffer = io.BytesIO()
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:])
        assert np.abs(decode(buffer.getvalue())[:, 0, 0] - np.array([255, 0, 0])).max() <= 2


WHOLE = {"PNG": encoded("PNG"), "JPEG": encoded("JPEG", exif=Image.Exif()), "WEBP": encoded("WEBP")}


@pytest.mark.parametrize("format", WHOLE)
@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9])
def test_content_that_was_cut_short_is_refused(format, share):
    content = WHOLE[format]
    with pytest.raises(DataError, match=r"^cats/1: (is not a PNG, JPEG or WebP image|cannot be decoded \()"):
        decode(content[: int(len(content) * share)])


@given(format=st.sampled_from(sorted(WHOLE)), place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
@settings(max_examples=150)
def test_damaged_content_is_an_image_or_a_data_error(format, place, byte):
    content = bytearray(WHOLE[format])
    content[int(place * len(content))] = byte
    found = None
    with contextlib.suppress(DataError):
        found = decode(bytes(content))
    assert found is None or found.shape == (3, 8, 8)
