"""Findings on image sets, and contact sheets."""

import io

import numpy as np
import pytest
from image_layouts import LABELS, N, edm_zip, folder, lmdb_folder
from PIL import Image

from etsdm.data.inspection import contact_sheet, inspect_images
from etsdm.data.place import dataset_at
from etsdm.errors import DataError
from etsdm.registry import datasets

TILE, GAP = 96, 4


def saved(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def odd(tmp_path):
    """One image of each kind, half of which no training can use."""
    red = Image.new("RGB", (40, 30), "red")
    turned = Image.Exif()
    turned[0x0112] = 6
    content = {
        "a/red.png": saved(red),
        "a/grey.png": saved(red.convert("L")),
        "a/turned.jpg": saved(red, "JPEG", exif=turned),
        "a/clear.webp": saved(Image.new("RGBA", (20, 20), (0, 0, 255, 9)), "WEBP", lossless=True),
        "b/moving.webp": saved(red, "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30), "blue")]),
        "b/deep.png": saved(Image.fromarray(np.zeros((8, 8), dtype=np.uint16))),
        "b/cut.png": saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)))[:2000],
        "b/empty.jpg": b"",
    }
    for name, one in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(one)
    return tmp_path


def at(place, **fields):
    return dataset_at(place, **{"image_size": 1, "background": "white", **fields})


def test_every_kind_is_counted_and_every_damaged_image_named(odd):
    done = []
    found = inspect_images(at(odd), lambda at, total: done.append((at, total)))
    assert found.images == 8
    assert found.formats == {"PNG": 4, "WEBP": 2, "JPEG": 1}  # of an empty file nothing is known
    assert found.sizes == {"40x30": 4, "20x20": 1, "50x50": 1, "8x8": 1}
    assert found.modes == {"RGB": 4, "I;16": 1, "L": 1, "RGBA": 1}
    assert found.channels == {"3": 4, "1": 2, "4": 1}
    assert found.classes == {"a": 4, "b": 4}
    assert found.marks == {"animated": 1, "rotated": 1, "transparent": 1}
    assert list(found.damaged) == ["b/cut.png", "b/deep.png", "b/empty.jpg"]
    assert "more than 8 bits a channel" in found.damaged["b/deep.png"]
    assert done == [(k, 8) for k in range(1, 9)]


def test_images_that_a_recipe_refuses_are_damaged(odd):
    found = inspect_images(at(odd, image_size=32, background=None))
    assert set(found.damaged) >= {"a/clear.webp", "a/red.png", "b/moving.webp"}
    assert "cannot be reduced to 32x32" in found.damaged["a/red.png"]


@pytest.mark.parametrize("write", [folder, edm_zip, lmdb_folder])
def test_every_container_gives_the_same(write, tmp_path):
    found = inspect_images(at(write(tmp_path)))
    assert (found.images, found.sizes, found.damaged) == (N, {"32x32": N}, {})
    assert list(found.classes.values()) == np.bincount(LABELS).tolist()


def test_both_splits_of_images_in_memory_count():
    found = inspect_images(datasets.create("digits"))
    assert (found.images, found.sizes, found.channels) == (1797, {"8x8": 1797}, {"1": 1797})
    # UCI's test part of the digits.
    assert found.classes == dict(zip("0123456789", [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], strict=True))


def tile(sheet, k):
    left, top = GAP + k % 8 * (TILE + GAP), GAP + k // 8 * (TILE + GAP)
    return np.array(sheet)[top : top + TILE, left : left + TILE]


def test_a_sheet_shows_usable_images_whole_and_upright(odd):
    sheet = contact_sheet(at(odd))
    assert sheet.size == (GAP + 5 * (TILE + GAP), GAP + TILE + GAP)  # clear, grey, red, turned, moving
    red = tile(sheet, 2)
    assert (red[48, 48] == [255, 0, 0]).all()
    assert (red[2, 48] == [128, 128, 128]).all()  # beside an image that is wider than high
    turned = tile(sheet, 3)
    assert turned[10, 48][0] > 200
    assert (turned[48, 10] == [128, 128, 128]).all()


def test_a_sheet_of_many_takes_them_at_equal_distances(tmp_path):
    for k in range(100):
        Image.new("RGB", (8, 8), (2 * k, 0, 0)).save(tmp_path / f"{k:02d}.png")
    sheet = contact_sheet(at(tmp_path), images=10)
    assert sheet.size == (GAP + 8 * (TILE + GAP), GAP + 2 * (TILE + GAP))
    assert [tile(sheet, k)[48, 48][0] for k in range(10)] == [20 * k for k in range(10)]


def test_a_sheet_of_digits_enlarges_by_a_whole_factor():
    part = datasets.create("digits")
    found = tile(contact_sheet(part, images=1), 0)
    level = ((part.open("train").pixels[0, 0] + 1) * 127.5).round().byte().numpy()
    assert np.array_equal(found[..., 0], level.repeat(12, axis=0).repeat(12, axis=1))


def test_no_sheet_without_an_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the images can be used"):
        contact_sheet(at(tmp_path))


@pytest.mark.parametrize(("name", "message"), [("nowhere", "is not there; give"), ("file.txt", "is no folder"), ("empty", "holds no PNG")])
def test_a_place_without_images_is_refused(tmp_path, name, message):
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        at(tmp_path / name)
