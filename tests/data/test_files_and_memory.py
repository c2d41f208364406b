"""Training and metrics on image files give bit for bit what they give on the same images in memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from etsdm.data import ImageFolder, LoadedImages
from etsdm.errors import DataError
from etsdm.metrics import EvaluationInputs, Lipschitz, LossPerTime, PixelFrechet, Recognition
from etsdm.training import Trainer
from etsdm.training.config import Training

N, HELD_OUT = 120, 40


@pytest.fixture(scope="module")
def pictures():
    """Levels 0 to 240 of digits, and their numbers, in the order of their files."""
    bunch = load_digits()
    order = np.argsort(bunch.target[:N], kind="stable")
    return (bunch.images[order] * 15).astype(np.uint8), bunch.target[order]


@pytest.fixture(scope="module")
def root(tmp_path_factory, pictures):
    root = tmp_path_factory.mktemp("pictures")
    for k, (pixels, number) in enumerate(zip(*pictures, strict=True)):
        (root / str(number)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / str(number) / f"{k:04d}.png")
    return root


@pytest.fixture(scope="module")
def data(root):
    return ImageFolder(path=str(root), image_size=8, channels=1, classes=10, held_out=HELD_OUT)


@pytest.fixture(scope="module")
def loaded(data, pictures):
    """The two splits in memory, from the arrays that the files were made of."""
    pixels = torch.from_numpy(pictures[0][:, None].astype(np.float32) / np.float32(127.5) - np.float32(1))
    labels = torch.from_numpy(pictures[1]).long()
    chosen = [torch.tensor([int(name[2:6]) for name in data.open(split).names]) for split in ("train", "test")]
    return [LoadedImages(pixels[k], labels[k]) for k in chosen]


def test_training_on_files_gives_the_weights_of_training_in_memory(data, loaded, tiny_spec):
    spec = tiny_spec(backbone={"num_classes": 10})
    # The second batch runs over the end of an epoch of 80 images.
    training = Training(images=192, batch_size=64)
    weights = []
    for images in (data.open("train"), loaded[0]):
        trainer = Trainer(spec, training, images, seed=0)
        for _ in range(3):
            trainer.step()
        weights.append(trainer.denoiser.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    start = spec.build(0).state_dict()
    assert not all(torch.equal(start[key], weights[1][key]) for key in start)


METRICS = [LossPerTime(fine=1, coarse=3, batch_size=16), Lipschitz(images=5, stop=24), PixelFrechet(chunks=2), Recognition()]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.type_name)
def test_a_metric_finds_the_same_in_files_and_in_memory(data, loaded, tiny_denoiser, metric):
    denoiser = tiny_denoiser(backbone={"num_classes": 10})
    samples = LoadedImages(loaded[1].pixels.flip(0), loaded[1].labels.flip(0))
    of_files, of_memory = (
        metric.compute(EvaluationInputs(denoiser, samples, train, test, 3))
        for train, test in ((data.open("train"), data.open("test")), loaded)
    )
    assert of_files == of_memory


@pytest.mark.parametrize("metric", [METRICS[0], METRICS[2], METRICS[3]], ids=lambda metric: metric.type_name)
def test_a_metric_that_needs_held_out_images_says_so(data, loaded, tiny_denoiser, metric):
    data = data.model_copy(update={"held_out": 0})
    subject = EvaluationInputs(tiny_denoiser(backbone={"num_classes": 10}), loaded[0], data.open("train"), data.open("test"), 0)
    with pytest.raises(DataError, match=r"^data.held_out: no image is held out"):
        metric.compute(subject)
