"""`TrainingLoader`: batches are a function of the seed and of the images seen, whoever reads them and how."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from etsdm.data import Augmentation, Digits, ImageFolder, LoadedImages, TrainingLoader
from etsdm.errors import DataError
from etsdm.randomness import per_image_uniform

N, SEEN = 97, 10_000


class Numbered(LoadedImages):
    """97 images of one pixel, whose labels are their indices, which count as images that must be decoded."""

    in_memory = False

    def __init__(self, pixels=None, labels=None):
        super().__init__(torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1) if pixels is None else pixels, torch.arange(N))


def order_of(workers, ranks, batch_size=120, start=0, seed=5):
    """Indices of the first images, put together again from all processes."""
    loaders = [
        TrainingLoader(Numbered(), seed, batch_size=batch_size, end=SEEN, workers=workers, rank=r, world_size=ranks) for r in range(ranks)
    ]
    found = torch.full((SEEN - start,), -1)
    for seen in range(start, SEEN, batch_size):
        rows = found[seen - start : min(seen + batch_size, SEEN) - start]
        for rank, loader in enumerate(loaders):
            rows[rank::ranks] = loader.batch(seen).labels
    return found


EXPECTED = order_of(0, 1)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_first_10000_indices_are_the_same_for_all_workers_and_processes(workers, ranks):
    assert torch.equal(order_of(workers, ranks), EXPECTED)
    assert torch.equal(order_of(workers, ranks, batch_size=37), EXPECTED)


@pytest.mark.parametrize("start", [1, 96, 97, 5000, 9999])
def test_a_training_resumed_anywhere_sees_the_images_of_the_uninterrupted_one(start):
    assert torch.equal(order_of(2, 2, start=start, batch_size=11), EXPECTED[start:])


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own():
    epochs = EXPECTED[: N * (SEEN // N)].view(-1, N)
    assert torch.equal(epochs.sort(1).values, torch.arange(N).expand_as(epochs))
    # Where an image stands in one epoch says nothing of where it stands in the next: each correlation has variance 1 / (N - 1).
    places = epochs.argsort(1).double()
    places = (places - places.mean(1, keepdim=True)) / places.std(1, correction=0, keepdim=True)
    correlation = (places[1:] * places[:-1]).mean(1)
    assert abs(correlation.mean()) < 4 / np.sqrt((N - 1) * len(correlation))
    assert correlation.abs().max() < 5 / np.sqrt(N - 1)


def test_all_images_come_equally_often_at_the_start_of_an_epoch():
    order = Numbered()
    first = torch.cat([order.order(seed).indices(N * epoch, 10) for seed in range(20) for epoch in range(50)])
    assert chisquare(torch.bincount(first, minlength=N)).pvalue > 1e-4


def test_flips_are_fair_independent_of_the_batch_and_of_the_image_before():
    flips = Augmentation(flip=True).draw(3, 0, 20_000).flips
    assert chisquare(torch.bincount(flips.long(), minlength=2)).pvalue > 1e-4
    pairs = flips[:-1].long() * 2 + flips[1:].long()
    assert chisquare(torch.bincount(pairs, minlength=4)).pvalue > 1e-4
    assert torch.equal(Augmentation(flip=True).draw(3, 7001, 500).flips, flips[7001:7501])
    assert not torch.equal(Augmentation(flip=True).draw(4, 0, 500).flips, flips[:500])
    assert Augmentation().draw(3, 0, 5) is None


def test_numbers_of_an_image_are_those_of_numpys_philox_at_its_counter():
    for image in (0, 1, 12345):
        alone = per_image_uniform(0, "x", image, 1)[0]
        assert torch.equal(alone, per_image_uniform(0, "x", max(0, image - 3), 10)[min(image, 3)])
        assert ((alone >= 0) & (alone < 1)).all()
    key = np.random.Philox(key=7).advance(5).random_raw(4)
    assert len(set(key.tolist())) == 4
    many = per_image_uniform(1, "y", 0, 50_000)
    assert many.mean().item() == pytest.approx(0.5, abs=0.005)
    assert torch.corrcoef(many.T).sub(torch.eye(4)).abs().max() < 0.02


@pytest.fixture
def files(tmp_path):
    """24 pictures of noise, 20x12, which are cropped and mirrored as they are read."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 12, 20), dtype=np.uint8)
    for k, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{k:02d}.png")
    return noise, ImageFolder(path=str(tmp_path), image_size=4, channels=1, held_out=0, filter="box")


def test_flips_and_crops_of_decoded_images_are_those_of_their_numbers(files):
    noise, data = files
    augmentation = Augmentation(flip=True, random_crop=0.5)
    whole = {workers: loaded(data, augmentation, workers, 1) for workers in (0, 3)}
    assert torch.equal(whole[0], whole[3])
    halves = [loaded(data, augmentation, 2, 2, rank) for rank in (0, 1)]
    assert torch.equal(torch.stack(halves, 1).flatten(0, 1), whole[0])
    # By hand, from the drawn numbers: a box of Pillow, mirrored.
    draws = augmentation.draw(1, 0, 48)
    for k, index in enumerate(data.open("train").order(1).indices(0, 48).tolist()):
        share, across, down = draws.crops[k].tolist()
        side = round(share * 12)
        left, top = round(across * (20 - side)), round(down * (12 - side))
        box = Image.fromarray(noise[index]).resize((4, 4), Image.Resampling.BOX, box=(left, top, left + side, top + side))
        expected = np.asarray(box)[:, ::-1] if draws.flips[k] else np.asarray(box)
        assert np.array_equal(whole[0][k, 0].add(1).mul(127.5).round().numpy().astype(np.uint8), expected)
    sides = draws.crops[:, 0]
    assert 0.5 <= sides.min() < 0.6 < 0.9 < sides.max() <= 1


def loaded(data, augmentation, workers, ranks, rank=0):
    loader = TrainingLoader(
        data.open("train"), 1, batch_size=8, end=48, augmentation=augmentation, workers=workers, rank=rank, world_size=ranks
    )
    return torch.cat([loader.batch(seen).pixels for seen in range(0, 48, 8)])


def test_images_of_a_batch_ahead_that_cannot_be_read_are_named_when_it_comes(files, tmp_path):
    data = files[1]
    loader = TrainingLoader(data.open("train"), 1, batch_size=4, end=96, workers=2)
    late = data.open("train").order(1).indices(8, 4).tolist()
    (tmp_path / f"{late[2]:02d}.png").write_bytes(b"not a picture")
    loader.batch(0)
    loader.batch(4)
    with pytest.raises(DataError, match=f"{late[2]:02d}.png"):
        loader.batch(8)


def test_threads_end_with_the_loader(files):
    before = set(threading.enumerate())
    loader = TrainingLoader(files[1].open("train"), 1, batch_size=8, end=10**6, workers=3)
    loader.batch(0)
    threads = [each for each in threading.enumerate() if each not in before]
    assert 0 < len(threads) <= 3
    del loader
    for each in threads:
        each.join(10)
    assert not any(each.is_alive() for each in threads)


def test_images_in_memory_are_mirrored_too():
    digits = Digits().open("train")
    loader = TrainingLoader(digits, 1, batch_size=64, end=64, augmentation=Augmentation(flip=True), workers=4)
    flips = Augmentation(flip=True).draw(1, 0, 64).flips
    plain = digits.batch(digits.order(1).indices(0, 64)).pixels
    assert torch.equal(loader.batch(0).pixels, torch.where(flips[:, None, None, None], plain.flip(-1), plain))
