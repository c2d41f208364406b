"""Emoji of the Noto Emoji font, which come with the package: colour images with classes, without a download."""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from etsdm.data.dataset import Dataset
from etsdm.data.emoji_drawings import drawings
from etsdm.data.images import LoadedImages
from etsdm.data.split import Split, refuse_empty_split, split_groups
from etsdm.errors import DataError, IntegrityError
from etsdm.registry import datasets
from etsdm.registry.counts import Seed
from etsdm.storage.regular import read_regular

__all__ = ["CLASSES", "Emoji"]

CLASSES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
NUM_IMAGES = 1911
SIDE, COLUMNS = 64, 48  # of an image in pixels; images in a row of the sheet
COMPARED = 16  # pixels of a side, for the comparison of pictures

ASSETS = Path(__file__).parents[1] / "assets"
SHA256 = {
    "emoji-64.webp": "bd080b8546a34267bd93b80d0d26979f454e3689be453465bbd4644b28eb3ddf",
    "emoji.csv": "c3507efa071f735241aa0a27c508e4b295e7a9fe9b8b3e4a13d98742c6bdbfec",
}
MAX_BYTES = 2**23  # of each of these files


@datasets.register("emoji")
class Emoji(Dataset):
    """1,911 emoji in colour on white, in nine classes (Noto Emoji of Unicode 16, without skin tones).

    Images are reduced from 64x64 by area averaging: a level is the mean of a block of pixels, rounded to the nearest integer, halves up.
    Class labels are the places in `CLASSES`, Unicode's order of categories.

    Many emoji are variants of one drawing, so the test split takes whole drawings, the same ones at every size. Two pictures are of one
    drawing if they are the same person, act, family or couple with other genders, another direction or other members; if they are of one of
    the families of `etsdm.data.emoji_drawings`, such as clock faces, hearts of all colours or keys; or if they, or one and the mirror image
    of the other, are nearly equal at 16x16. Flags of different designs and faces of clearly different expressions are separate drawings.

    Attributes:
        size: side in pixels.
        held_out: share of the images in the test split; some fewer if drawings of many variants do not fit.
        split_seed: seed of the split.
    """

    size: Literal[8, 16, 32, 64] = 32
    held_out: float = Field(0.2, gt=0, lt=1)
    split_seed: Seed = 0

    @model_validator(mode="after")
    def _splits_have_images(self) -> Self:
        refuse_empty_split(NUM_IMAGES, self.held_out)
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, size, size)."""
        return 3, self.size, self.size

    @property
    def num_classes(self) -> int:
        """9."""
        return len(CLASSES)

    def open(self, split: Split) -> LoadedImages:
        """Loads one split, uint8.

        Raises:
            DataError: the files of the package cannot be read.
            IntegrityError: they are not those of the package.
        """
        images, labels, groups = _contents()
        chosen = split_groups(groups, self.held_out, self.split_seed, split)
        return LoadedImages(_reduced(images[chosen], self.size), labels[chosen])


@cache
def _contents() -> tuple[Tensor, Tensor, Tensor]:
    """Images, uint8, (N, 3, 64, 64), with labels and drawings, int64, (N,)."""
    rows = list(csv.DictReader(StringIO(_verified("emoji.csv").decode())))
    with Image.open(BytesIO(_verified("emoji-64.webp")), formats=["WEBP"]) as opened:
        sheet = torch.from_numpy(np.array(opened.convert("RGB")))
    cells = sheet.unflatten(0, (-1, SIDE)).unflatten(2, (COLUMNS, SIDE)).permute(0, 2, 4, 1, 3)
    images = cells.reshape(-1, 3, SIDE, SIDE)[: len(rows)]
    labels = torch.tensor([CLASSES.index(row["category"]) for row in rows])
    return images, labels, drawings([row["codepoints"] for row in rows], _reduced(images, COMPARED))


def _verified(name: str) -> bytes:
    """The content of one of the package's files."""
    path, mend = ASSETS / name, "install etsdm again"
    try:
        content = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"emoji: {path} cannot be read ({error.strerror}); {mend}") from None
    if (found := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise IntegrityError(f"emoji: {path} has sha256 {found[:12]}, expected {SHA256[name][:12]}; {mend}")
    return content


def _reduced(images: Tensor, size: int) -> Tensor:
    """Means of square blocks, uint8, (N, 3, size, size)."""
    side = images.shape[-1] // size
    area = side * side
    sums: Tensor = images.unflatten(3, (size, side)).unflatten(2, (size, side)).sum((3, 5), dtype=torch.int32)
    return sums.add(area // 2).div(area, rounding_mode="floor").to(torch.uint8)
