"""Crops of scikit-learn's photographs: where they lie, and that no pixel is in both splits."""

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.datasets import load_sample_images

from etsdm.data import Photos
from etsdm.data.augmentation import Draws
from etsdm.errors import DataError
from etsdm.registry import datasets


@pytest.fixture
def marked(monkeypatch):
    """Photographs that are 255 in the held-out columns, the last fifth of 640, and 0 elsewhere."""
    found = load_sample_images()
    columns = np.repeat(np.uint8([0, 255]), [512, 128])
    found.images = [np.broadcast_to(columns[None, :, None], image.shape) for image in found.images]
    monkeypatch.setattr(sklearn.datasets, "load_sample_images", lambda: found)


def test_no_training_crop_touches_the_held_out_columns(marked):
    for size in range(1, 129):
        photos = Photos(size=size, crops=200, held_out=200)
        for split, width, level in (("train", 512, 0), ("test", 128, 255)):
            images = photos.open(split)
            assert (images.read(range(200))[0] == level).all()
            # And the crop that is furthest to the right and down, whatever was drawn.
            images.corners[0] = torch.tensor([1, 427 - size, width - size])
            assert (images.corners <= images.corners[0]).all()
            assert (images.read([0])[0] == level).all()


def test_every_place_is_drawn(marked):
    corners = Photos(size=128, held_out=10_000).open("test").corners
    # One column, 427 - 128 + 1 rows and two photographs: a place is missed with probability 600 exp(-10000 / 600) = 3e-5.
    assert len(corners.unique(dim=0)) == 600


@pytest.mark.parametrize("split", ["train", "test"])
def test_crops_are_squares_of_the_photographs(split):
    originals = load_sample_images().images
    images = Photos(size=16, crops=40, held_out=40).open(split)
    offset = 512 if split == "test" else 0
    pixels, labels = images.read([3, 0, 17])
    assert pixels.dtype == torch.uint8
    for row, k in enumerate([3, 0, 17]):
        image, top, left = images.corners[k].tolist()
        expected = originals[image][top : top + 16, offset + left : offset + left + 16]
        assert (pixels[row].permute(1, 2, 0).numpy() == expected).all()
        assert labels[row] == image
    assert (images.class_labels() == images.corners[:, 0]).all()


def test_crop_k_is_a_function_of_the_seed_and_k():
    few, many, other = (Photos(size=8, crops=n, crop_seed=seed).open("train") for n, seed in ((20, 0), (50, 0), (50, 1)))
    assert (few.read(range(20))[0] == many.read(range(20))[0]).all()
    assert (few.corners == many.corners[:20]).all()
    assert (many.corners != other.corners).any(1).sum() > 40
    assert len({images.digest() for images in (few, many, other)}) == 3
    assert few.digest() == Photos(size=8, crops=20).open("train").digest()
    assert few.digest() != Photos(size=9, crops=20).open("train").digest()


def test_crops_are_images_like_any_others():
    photos = datasets.make({"type": "photos", "size": 64, "crops": 5, "held_out": 3})
    assert (photos.shape, photos.num_classes) == ((3, 64, 64), 2)
    train, test = photos.open("train"), photos.open("test")
    assert (len(train), len(test)) == (5, 3)
    loaded = train.load()
    assert loaded.pixels.shape == (5, 3, 64, 64)
    assert -1 <= loaded.pixels.min() < loaded.pixels.max() <= 1
    flips = Draws(torch.tensor([True, False]))
    assert (train.to("cpu").batch([1, 1], flips).pixels == torch.stack([loaded.pixels[1].flip(-1), loaded.pixels[1]])).all()


@pytest.mark.parametrize("field", [{"size": 0}, {"size": 129}, {"crops": 0}, {"held_out": 0}])
def test_numbers_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Photos(**field)


def test_other_photographs_are_refused(monkeypatch):
    found = load_sample_images()
    found.images.pop()
    monkeypatch.setattr(sklearn.datasets, "load_sample_images", lambda: found)
    with pytest.raises(DataError, match=r"photos: found images of shape \(427, 640, 3\) in scikit-learn; 2 of"):
        Photos().open("train")
