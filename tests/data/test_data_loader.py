"""Images in torch's DataLoader: its workers give the batches that the trainer reads itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from etsdm.data import Digits, ImageFolder, SampleOrder

COUNT, BATCH_SIZE = 20, 8


@pytest.fixture
def files(tmp_path):
    bunch = load_digits()
    for k in range(COUNT):
        (tmp_path / str(bunch.target[k])).mkdir(exist_ok=True)
        Image.fromarray((bunch.images[k] * 15).astype(np.uint8)).save(tmp_path / str(bunch.target[k]) / f"{k:02d}.png")
    return ImageFolder(path=str(tmp_path), image_size=8, channels=1, classes=10, held_out=0).open("train")


@pytest.fixture(params=["in files", "in memory"])
def images(request):
    return request.getfixturevalue("files") if request.param == "in files" else Digits().open("test")


@pytest.mark.parametrize("threads", [1, 2])
def test_two_workers_give_the_batches_of_the_sample_order(images, threads):
    order = SampleOrder(len(images), seed=3)
    # From the middle of an epoch over the end of the next, as a resumed training does.
    batches = [order.indices(seen, BATCH_SIZE).tolist() for seen in range(16, 16 + 6 * BATCH_SIZE, BATCH_SIZE)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        # Forked workers inherit this pool of two threads without its threads.
        expected = [images.batch(indices) for indices in batches]
        loader = DataLoader(
            range(len(images)),
            batch_sampler=batches,
            collate_fn=images.batch,
            num_workers=2,
            worker_init_fn=lambda worker: torch.set_num_threads(threads),
            multiprocessing_context="fork",
            timeout=30,
        )
        found = list(loader)
    finally:
        torch.set_num_threads(before)
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(expected, found, strict=True):
        assert torch.equal(ours.pixels, theirs.pixels)
        assert torch.equal(ours.labels, theirs.labels)
