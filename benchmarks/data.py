"""Decoded 256x256 images a second against torchvision's ImageFolder and Pillow alone, and how long a training waits for its images.

    python benchmarks/data.py [--images 128] [--rounds 9] [--workers 2]

Images are crops of scikit-learn's two photographs. One core: processor time without threads or workers, in turns in one process. Batches
in float32 are compared with those of torchvision's `ImageFolder` with `PILToTensor` in a `DataLoader`, aim 1.0 times; batches of 8 bits,
as they go to the device, with `Image.open(...).convert("RGB")` and a copy to an array, aim 0.9 times. All cores:
seconds with so many threads of ours, and so many worker processes of the `DataLoader`. Waiting: the share of the time of training steps
that is spent on their batches, of the recipe's own network and data; the aim is below 2 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import __version__ as torchvision_version
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import PILToTensor
from turns import in_turns, ratio

from etsdm.data import ImageFolder, TrainingLoader
from etsdm.experiment import build
from etsdm.training import Trainer

SIZE, BATCH = 256, 32
FORMATS = {"jpg": {"quality": 90}, "png": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128, help="images of each format")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each")
    parser.add_argument("--workers", type=int, default=2, help="threads, or processes, of the second comparison")
    parser.add_argument("--recipes", nargs="*", default=["digits", "emoji"], help="recipes whose waiting is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, torchvision {torchvision_version}, Pillow {Image.__version__}; ratios with quartiles")
    for extension in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), extension, options.images)
            for workers in (0, options.workers):
                compare(Path(folder), extension, workers, options)
    for recipe in options.recipes:
        print(f"{recipe:7} waits {waiting(recipe):.2%} of a training step for its images")


def write_images(folder: Path, extension: str, count: int) -> None:
    """Crops of photographs, in one class."""
    (folder / "class").mkdir()
    photos, rng = load_sample_images().images, np.random.default_rng(0)
    for k in range(count):
        photo = photos[k % len(photos)]
        top, left = rng.integers(photo.shape[0] - SIZE), rng.integers(photo.shape[1] - SIZE)
        picture = Image.fromarray(photo[top : top + SIZE, left : left + SIZE])
        picture.save(folder / "class" / f"{k:05d}.{extension}", **FORMATS[extension])


def compare(folder: Path, extension: str, workers: int, options: Namespace) -> None:
    """Prints images a second of each way, and ours over theirs."""
    pairs = {"torchvision": (partial(ours, folder, workers, options.images), partial(torchvision, folder, workers))}
    if not workers:
        pairs["Pillow"] = (partial(stored, folder), partial(pillow, folder))
    for name, (mine, theirs) in pairs.items():
        # Workers are other processes, whose processor time is not seen here: then seconds on the wall are compared.
        taken = in_turns({"etsdm": mine, name: theirs}, Namespace(rounds=options.rounds, device="cpu", threads=1 + workers))
        rates = ", ".join(f"{one} {options.images / sorted(each)[len(each) // 2]:.0f}/s" for one, each in taken.items())
        found = ratio(taken[name], taken["etsdm"])
        print(f"{extension} {workers} workers: {found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f}) times {name}; {rates}")


def stored(folder: Path) -> None:
    images = ImageFolder(path=str(folder), image_size=SIZE, held_out=0).open("train")
    for start in range(0, len(images), BATCH):
        images.read(range(start, min(start + BATCH, len(images))))


def ours(folder: Path, workers: int, count: int) -> None:
    images = ImageFolder(path=str(folder), image_size=SIZE, held_out=0).open("train")
    loader = TrainingLoader(images, 0, batch_size=BATCH, end=count, workers=workers)
    for seen in range(0, count, BATCH):
        loader.batch(seen)


def torchvision(folder: Path, workers: int) -> None:
    loader = DataLoader(TorchvisionFolder(folder, transform=PILToTensor()), batch_size=BATCH, shuffle=True, num_workers=workers)
    for pixels, _ in loader:
        pixels.float().div_(127.5).sub_(1)  # ours are ready for a network as well


def pillow(folder: Path) -> None:
    for file in sorted(folder.rglob("*.*")):
        with Image.open(file) as opened:
            np.array(opened.convert("RGB"))


def waiting(name: str) -> float:
    """Share of the time of 20 training steps that is spent on batches."""
    recipe = build(name).recipe
    trainer = Trainer(recipe.model, recipe.training, recipe.data.open("train"), seed=0)
    for _ in range(3):
        trainer.step()
    trainer._loader.waited = 0.0
    start = time.perf_counter()
    for _ in range(20):
        trainer.step()
    return trainer._loader.waited / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
