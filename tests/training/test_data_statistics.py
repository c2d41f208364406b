"""Statistics of training images, against numpy on the same images."""

import numpy as np
import pytest
import torch
from PIL import Image

from etsdm.data import ImageFolder, LoadedImages
from etsdm.storage.records import read_record, write_record
from etsdm.training import DataStatistics, Training, measure_statistics

N = 37


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), dtype=np.uint8) // np.array([1, 2, 4], dtype=np.uint8)[:, None, None]


@pytest.fixture(scope="module")
def images(pixels):
    return LoadedImages(torch.from_numpy(pixels), torch.arange(N) % 4)


def test_moments_are_those_of_numpy(pixels, images):
    signal = pixels / 127.5 - 1
    done = []
    found = measure_statistics(images, Training(images=1000, batch_size=10), progress=lambda *at: done.append(at))
    assert (found.images, found.shape, found.data_digest) == (N, [3, 8, 8], images.digest())
    assert found.channel_means == pytest.approx(signal.mean((0, 2, 3)), abs=1e-7)
    assert found.channel_stds == pytest.approx(signal.std((0, 2, 3)), rel=1e-6)
    assert (found.mean, found.std) == (pytest.approx(signal.mean(), abs=1e-7), pytest.approx(signal.std(), rel=1e-6))
    assert (found.low, found.high) == (pytest.approx(signal.min()), pytest.approx(signal.max()))
    assert found.class_counts == [10, 9, 9, 9]
    assert done == [(10, N), (20, N), (30, N), (N, N)]


def test_flips_change_no_moment_and_crops_do(tmp_path):
    # A white middle on black: every crop of half the side has more of it than the whole.
    for k in range(20):
        picture = np.zeros((32, 32), dtype=np.uint8)
        picture[8:24, 8:24] = 255 - k
        Image.fromarray(picture).save(tmp_path / f"{k:02d}.png")
    files = ImageFolder(path=str(tmp_path), image_size=8, channels=1, held_out=0).open("train")
    plain, flipped, cropped = (
        measure_statistics(files, Training(images=20, batch_size=8, **fields), seed=1, workers=2)
        for fields in ({}, {"flip": True}, {"random_crop": 0.5})
    )
    assert flipped.mean == pytest.approx(plain.mean, abs=1e-7)
    assert flipped.std == pytest.approx(plain.std, rel=1e-7)
    assert cropped.mean > plain.mean + 0.05
    assert flipped.augmentation == {"flip": True, "random_crop": None}


def test_threads_change_nothing(tmp_path, pixels):
    for k, one in enumerate(pixels):
        Image.fromarray(one.transpose(1, 2, 0)).save(tmp_path / f"{k:02d}.png")
    files = ImageFolder(path=str(tmp_path), image_size=8, held_out=0).open("train")
    training = Training(images=1000, batch_size=7, flip=True)
    assert measure_statistics(files, training, workers=3) == measure_statistics(files, training)


def test_the_record_is_sealed_and_comes_back(tmp_path, images):
    found = measure_statistics(images, Training(images=100))
    write_record(tmp_path / "a.json", found)
    assert read_record(tmp_path / "a.json", DataStatistics) == found
