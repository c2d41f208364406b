"""A recipe on image files does bit for bit what it does on the same images in memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import etsdm
from etsdm.checkpoints.format import read_checkpoint
from etsdm.data import LoadedImages
from etsdm.errors import DataError
from etsdm.metrics import EvaluationInputs, Lipschitz, LossPerTime, PixelFrechet, Recognition
from etsdm.training import Trainer

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
def recipe(root):
    backbone = {"type": "adm-unet", "image_size": 8, "in_channels": 1, "out_channels": 1, "num_classes": 10}
    small = {"model_channels": 8, "norm_groups": 4, "channel_mult": [1, 2], "attention_resolutions": [2], "num_res_blocks": 1}
    return {
        "name": "files",
        "data": {"type": "image-folder", "path": str(root), "image_size": 8, "channels": 1, "classes": 10, "held_out": HELD_OUT},
        "model": {"schedule": "linear", "target": "eps", "backbone": {**backbone, **small}},
        # Two batches run over the end of an epoch of 80 images.
        "training": {"images": 256, "batch_size": 64, "ema": 0.9},
    }


@pytest.fixture(scope="module")
def loaded(recipe, root, pictures):
    """The two splits in memory, from the arrays that the files were made of."""
    pixels = torch.from_numpy(pictures[0][:, None].astype(np.float32) / np.float32(127.5) - np.float32(1))
    labels = torch.from_numpy(pictures[1]).long()
    splits = []
    for split in ("train", "test"):
        names = etsdm.build(recipe).recipe.data.open(split).names
        chosen = torch.tensor([int(name[2:6]) for name in names])
        splits.append(LoadedImages(pixels[chosen], labels[chosen]))
    return splits


def test_training_on_files_gives_the_weights_of_training_in_memory(recipe, loaded, tmp_path):
    experiment = etsdm.build(recipe, out=tmp_path / "files")
    experiment.train()
    (run,) = experiment.runs
    of_files = read_checkpoint(run.folder.checkpoint_at(256)).denoiser.backbone.state_dict()
    trainer = Trainer(run.recipe.model, run.recipe.training, loaded[0], seed=run.seed)
    for _ in trainer.run(lambda seen: tmp_path / "memory" / str(seen)):
        pass
    of_memory = trainer.average.module.state_dict()
    assert of_files.keys() == of_memory.keys()
    assert all(torch.equal(of_files[key], of_memory[key]) for key in of_memory)
    start = run.recipe.model.build(run.seed).backbone.state_dict()
    assert not all(torch.equal(start[key], of_memory[key]) for key in of_memory)


METRICS = [LossPerTime(fine=50, coarse=400, batch_size=16), Lipschitz(images=5, stop=24), PixelFrechet(chunks=2), Recognition()]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.type_name)
def test_a_metric_finds_the_same_in_files_and_in_memory(recipe, loaded, tiny_denoiser, metric):
    data, denoiser = etsdm.build(recipe).recipe.data, tiny_denoiser(backbone={"num_classes": 10})
    samples = LoadedImages(loaded[1].pixels.flip(0), loaded[1].labels.flip(0))
    of_files, of_memory = (
        metric.compute(EvaluationInputs(denoiser, samples, train, test, 3))
        for train, test in ((data.open("train"), data.open("test")), loaded)
    )
    assert of_files == of_memory


@pytest.mark.parametrize("metric", [METRICS[0], METRICS[2], METRICS[3]], ids=lambda metric: metric.type_name)
def test_a_metric_that_needs_held_out_images_says_so(recipe, loaded, tiny_denoiser, metric):
    data = etsdm.build(recipe, "data.held_out=0").recipe.data
    subject = EvaluationInputs(tiny_denoiser(backbone={"num_classes": 10}), loaded[0], data.open("train"), data.open("test"), 0)
    with pytest.raises(DataError, match=r"^data.held_out: no image is held out, and what is measured needs some; hold out one or more$"):
        metric.compute(subject)
