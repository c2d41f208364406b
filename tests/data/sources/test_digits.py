import hashlib

import pytest
import torch
from sklearn.datasets import load_digits

from etsdm.data import Digits, LoadedImages


@pytest.fixture(scope="module")
def train():
    return Digits().open("train")


@pytest.fixture(scope="module")
def test():
    return Digits().open("test")


def rows(images):
    """Every image with its label, as something that can be counted."""
    return sorted((*pixels, label) for pixels, label in zip(images.pixels.flatten(1).tolist(), images.labels.tolist(), strict=True))


def test_a_fifth_of_the_images_is_held_out(train, test):
    # 1,797 images (scikit-learn's documentation); 0.2 * 1797 = 359.4.
    assert (len(train), len(test)) == (1438, 359)


def test_images_are_grey_and_between_minus_one_and_one(train, test):
    for images in (train, test):
        assert images.pixels.shape == (len(images), *Digits().shape) == (len(images), 1, 8, 8)
        assert images.pixels.dtype == torch.float32
        assert images.pixels.min() == -1
        assert images.pixels.max() == 1
        assert images.labels.dtype == torch.int64
        assert images.labels.unique().tolist() == list(range(10))


def test_the_splits_hold_every_image_of_the_data_set_once(train, test):
    original = load_digits()
    pixels = torch.from_numpy(original.data).float() / 8 - 1
    known = LoadedImages(pixels.reshape(-1, 1, 8, 8), torch.from_numpy(original.target))
    assert sorted(rows(train) + rows(test)) == rows(known)


def test_another_seed_holds_out_other_images(test):
    other = Digits(split_seed=1).open("test")
    assert len(other) == len(test)
    assert other.digest() != test.digest()


@pytest.mark.parametrize(("held_out", "expected"), [(0.5, 898), (0.01, 18), (0.999, 1795)])
def test_the_share_that_is_held_out_can_be_set(held_out, expected):
    # Halves to even: 0.5 * 1797 = 898.5.
    digits = Digits(held_out=held_out)
    assert len(digits.open("test")) == expected
    assert len(digits.open("train")) == 1797 - expected


@pytest.mark.parametrize("held_out", [0, 1, -0.1])
def test_a_split_without_images_is_refused(held_out):
    with pytest.raises(ValueError, match="held_out"):
        Digits(held_out=held_out)


@pytest.mark.parametrize("held_out", [0.0001, 0.9999])
def test_a_share_that_leaves_a_split_without_images_is_refused(held_out):
    with pytest.raises(ValueError, match=rf"held_out: {held_out} of 1797 images"):
        Digits(held_out=held_out)


def test_a_digest_is_the_same_at_every_opening(train, test):
    assert Digits().open("train").digest() == train.digest()
    assert train.digest() != test.digest()


def test_a_digest_is_the_sha256_of_pixels_and_labels():
    images = LoadedImages(torch.zeros(2, 1, 1, 1), torch.tensor([3, 4]))
    content = b"torch.float32(2, 1, 1, 1)" + bytes(8) + b"torch.int64(2,)" + b"\x03" + bytes(7) + b"\x04" + bytes(7)
    assert images.digest() == hashlib.sha256(content).hexdigest()


def test_a_digest_changes_with_a_pixel_a_label_and_a_shape(test):
    pixels, labels = test.pixels.clone(), test.labels.clone()
    pixels[5, 0, 3, 3] += 0.125
    labels[7] = (labels[7] + 1) % 10
    others = [
        LoadedImages(pixels, test.labels),
        LoadedImages(test.pixels, labels),
        LoadedImages(test.pixels.reshape(-1, 1, 4, 16), test.labels),
    ]
    assert len({test.digest(), *(images.digest() for images in others)}) == 4


def test_a_digest_does_not_depend_on_the_memory_layout(test):
    turned = test.pixels.transpose(2, 3).contiguous().transpose(2, 3)
    assert LoadedImages(turned, test.labels).digest() == test.digest()
