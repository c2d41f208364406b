"""Images in memory, and the methods that every kind of images shares."""

import pytest
import torch

from etsdm.data import LoadedImages
from etsdm.errors import DataError


@pytest.fixture
def images():
    """Five images of two pixels, whose values tell their index."""
    return LoadedImages(torch.arange(10.0).reshape(5, 1, 1, 2) / 10, torch.arange(5) * 11)


@pytest.mark.parametrize("indices", [[4, 0, 4], range(1, 4), torch.tensor([3, 1]), []])
def test_a_batch_holds_the_images_asked_for_in_their_order(images, indices):
    batch = images.batch(indices)
    expected = [int(i) for i in indices]
    assert len(batch) == len(expected)
    assert batch.labels.tolist() == [11 * i for i in expected]
    assert batch.pixels.shape == (len(expected), 1, 1, 2)
    assert batch.pixels[:, 0, 0, 0].tolist() == pytest.approx([0.2 * i for i in expected])


def test_an_index_beyond_the_last_image_is_refused(images):
    with pytest.raises(IndexError):
        images.batch([5])


@pytest.mark.parametrize(("size", "expected"), [(2, [[0, 1], [2, 3], [4]]), (5, [[0, 1, 2, 3, 4]]), (99, [[0, 1, 2, 3, 4]])])
def test_batches_are_all_images_in_order(images, size, expected):
    found = list(images.batches(size))
    assert [list(indices) for indices, _ in found] == expected
    assert [(batch.labels // 11).tolist() for _, batch in found] == expected


def test_loading_gives_all_images(images):
    assert torch.equal(images.load().pixels, images.pixels)
    assert torch.equal(images.load().labels, images.labels)


def test_images_on_a_device_give_batches_there(images):
    batch = images.to("meta").batch([0])
    assert (batch.pixels.device.type, batch.labels.device.type) == ("meta", "meta")


def test_no_images_cannot_be_measured(images):
    none = images.batch([])
    for use in (none.load, lambda: list(none.batches(3))):
        with pytest.raises(DataError, match=r"^data.held_out: .*; hold out one or more$"):
            use()
