"""The emoji of the package: pixels, labels, and a split that keeps the variants of a drawing together."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from etsdm.data import Emoji
from etsdm.data.emoji_drawings import FAMILIES, drawings
from etsdm.data.sources import emoji as source
from etsdm.errors import DataError, IntegrityError

ROWS = list(csv.DictReader((source.ASSETS / "emoji.csv").open()))
PLACES = {row["name"]: k for k, row in enumerate(ROWS)}


@pytest.fixture(scope="module")
def sheet():
    return np.array(Image.open(source.ASSETS / "emoji-64.webp").convert("RGB"))


@pytest.fixture(scope="module")
def groups():
    return source._contents()[2]


def at(sheet, k):
    """Picture k of the sheet, 48 in a row."""
    row, column = divmod(k, 48)
    return sheet[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]


def places(split, **fields):
    """The places in the sheet of a split's images, told by their pixels; the first of equal pictures."""
    whole = source._contents()[0]
    by_pixels = {}
    for k, picture in enumerate(whole):
        by_pixels.setdefault(picture.numpy().tobytes(), k)
    return [by_pixels[picture.numpy().tobytes()] for picture in Emoji(size=64, **fields).open(split).pixels]


def test_the_splits_hold_every_image_once():
    train, test = Emoji().open("train"), Emoji().open("test")
    # 0.2 * 1911 = 382.2.
    assert (len(train), len(test)) == (1529, 382)
    whole = source._reduced(source._contents()[0], 32)
    both = torch.cat([train.pixels, test.pixels])
    assert sorted(picture.numpy().tobytes() for picture in both) == sorted(picture.numpy().tobytes() for picture in whole)


def test_images_are_levels_of_three_channels_and_labels_are_of_nine_classes():
    for split in ("train", "test"):
        images = Emoji(size=16).open(split)
        assert images.pixels.shape == (len(images), *Emoji(size=16).shape) == (len(images), 3, 16, 16)
        assert images.pixels.dtype == torch.uint8
        assert images.labels.unique().tolist() == list(range(Emoji().num_classes)) == list(range(9))


def test_classes_are_counted_as_in_the_table_that_came_with_them():
    counts = torch.cat([Emoji(size=8).open(split).labels for split in ("train", "test")]).bincount()
    wanted = {"Smileys & Emotion": 169, "People & Body": 391, "Animals & Nature": 159, "Food & Drink": 131, "Travel & Places": 218}
    wanted |= {"Activities": 85, "Objects": 264, "Symbols": 224, "Flags": 270}
    assert dict(zip(source.CLASSES, counts.tolist(), strict=True)) == wanted


def test_pictures_are_those_of_the_sheet_in_its_order(sheet):
    images, labels, _ = source._contents()
    for k in (0, 47, 48, 1910):
        assert (images[k].permute(1, 2, 0).numpy() == at(sheet, k)).all()
        assert source.CLASSES[labels[k]] == ROWS[k]["category"]
    red, yellow = images[PLACES["large_red_square"]], images[PLACES["large_yellow_circle"]]
    assert red[:, 32, 32].tolist() == [244, 67, 54]  # Material red 500, the palette of Noto Emoji
    assert yellow[0, 32, 32] > 240 > 100 > yellow[2, 32, 32]


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_a_level_is_the_mean_of_its_block_rounded_half_up(size):
    side = 64 // size
    whole = source._contents()[0][::100]
    means = whole.double().reshape(-1, 3, size, side, size, side).mean((3, 5))  # quarters and the like are exact
    assert (source._reduced(whole, size) == (means + 0.5).floor()).all()
    halves = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    halves[..., ::2, :] = 1
    assert (source._reduced(halves, 32) == 1).all()
    assert (source._reduced(torch.full_like(halves, 255), size) == 255).all()


def test_no_drawing_is_in_both_splits(groups):
    for seed in range(3):
        train, test = (set(groups[places(split, split_seed=seed)].tolist()) for split in ("train", "test"))
        assert not train & test


def test_no_picture_of_a_split_is_nearly_one_of_the_other():
    # Squared distance at 16x16 over the mean of the squared distances to white; the split at 64x64 is that of every size.
    train, test = (255 - source._reduced(Emoji(size=64).open(split).pixels, 16).double() for split in ("train", "test"))
    for mirrored in (test, test.flip(3)):
        distance = torch.cdist(train.flatten(1), mirrored.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").square()
        white = (train.flatten(1).square().sum(1)[:, None] + test.flatten(1).square().sum(1)[None]) / 2
        assert (distance / white).min() > 1 / 25


@pytest.mark.parametrize(
    "names",
    [
        "clock12 clock1230 clock7",
        "grinning smiley smile",
        "point_left point_right point_up_2",
        "cook male-cook female-cook",
        "runner man-running woman_running_facing_right",
        "man-woman-boy woman-girl family family_adult_child",
        "couplekiss man-kiss-man woman-kiss-woman",
        "people_holding_hands two_men_holding_hands",
        "heart blue_heart white_heart hearts",
        "red_circle large_green_circle",
        "skin-tone-2 skin-tone-6",
        "waxing_crescent_moon waning_crescent_moon",
        "zero nine hash keycap_ten",
        "arrow_left arrow_up left_right_arrow",
        "flag-bv flag-no flag-sj",
        "flag-um us",
        "mailbox mailbox_with_mail",
        "lock unlock",
    ],
)
def test_variants_are_one_drawing(groups, names):
    assert len({int(groups[PLACES[name]]) for name in names.split()}) == 1


@pytest.mark.parametrize(
    "names",
    [
        "grinning rage heart_eyes sunglasses",
        "cook astronaut mage runner man",
        "fr de jp gb",
        "heart red_circle large_red_square",
        "female_sign male_sign",
        "dog cat horse pig",
        "aries leo virgo",
        "clock1 alarm_clock watch",
    ],
)
def test_other_pictures_are_other_drawings(groups, names):
    assert len({int(groups[PLACES[name]]) for name in names.split()}) == len(names.split())


def test_every_family_names_emoji_of_the_table():
    from etsdm.data.emoji_drawings import _key, _members

    known = {_key(row["codepoints"]) for row in ROWS}
    members = [member for line in FAMILIES for member in _members(line)]
    assert not {_key(member) for member in members} - known
    assert len(set(members)) == len(members)


def test_pictures_are_joined_by_what_they_show():
    pictures = torch.full((5, 1, 16, 16), 255, dtype=torch.uint8)
    pictures[0, :, :, :8] = 0
    pictures[1, :, :, 8:] = 0  # the mirror image of the first
    pictures[2, :, :8] = 0
    pictures[3, :, :8] = 10
    pictures[4] = 255
    assert drawings(["1", "2", "3", "4", "5"], pictures).tolist() == [0, 0, 2, 2, 4]
    pair = torch.zeros(2, 1, 1, 1, dtype=torch.uint8)
    for level, joined in ((46, True), (47, False)):  # level² / ((255² + (255 - level)²) / 2) is 0.0390 and 0.0410
        pair[1] = level
        assert (drawings(["1", "2"], pair)[1] == 0) == joined


@pytest.mark.parametrize("held_out", [0, 1, 0.0001, 0.9999])
def test_a_split_without_images_is_refused(held_out):
    with pytest.raises(ValueError, match="held_out"):
        Emoji(held_out=held_out)


@pytest.mark.parametrize("size", [0, 7, 48, 128])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="size"):
        Emoji(size=size)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The files of the package in a folder of the test's own."""
    shutil.copytree(source.ASSETS, tmp_path / "assets")
    monkeypatch.setattr(source, "ASSETS", tmp_path / "assets")
    source._contents.cache_clear()
    yield tmp_path / "assets"
    source._contents.cache_clear()


@pytest.mark.parametrize("name", source.SHA256)
def test_a_damaged_file_is_refused(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[1000] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=rf"emoji: .*{name} has sha256 [0-9a-f]{{12}}, expected {source.SHA256[name][:12]}; install"):
        Emoji().open("train")


@pytest.mark.parametrize("name", source.SHA256)
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(DataError, match=rf"emoji: .*{name} cannot be read .*; install etsdm again"):
        Emoji().open("train")
