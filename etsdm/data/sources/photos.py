"""Random crops of scikit-learn's two photographs, which come with that library: photographs of any small size without a download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from etsdm.data.augmentation import Draws
from etsdm.data.dataset import Dataset
from etsdm.data.images import Images
from etsdm.data.split import Split
from etsdm.errors import DataError
from etsdm.randomness import per_image_uniform
from etsdm.registry import datasets
from etsdm.registry.counts import ImageCount, Seed

__all__ = ["Crops", "Photos"]

PHOTOGRAPHS = 2
HEIGHT, WIDTH = 427, 640  # of each
HELD_OUT = 128  # columns at the right edge of each, a fifth of it


@datasets.register("photos")
class Photos(Dataset):
    """Random squares of two photographs in colour, a temple in China (class 0) and a flower (class 1), at the photographs' resolution.

    Test crops lie in the 128 columns at the right edge of each photograph, a fifth of it, and training crops in the 512 others, so that no
    pixel is in both splits. Crop k of a split is a function of `crop_seed` and k, whatever the number of crops.

    Attributes:
        size: side in pixels.
        crops: number of training crops.
        held_out: number of test crops.
        crop_seed: seed of the places.
    """

    size: int = Field(32, ge=1, le=HELD_OUT)
    crops: ImageCount = 10_000
    held_out: ImageCount = 1000
    crop_seed: Seed = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, size, size)."""
        return 3, self.size, self.size

    @property
    def num_classes(self) -> int:
        """2."""
        return PHOTOGRAPHS

    def open(self, split: Split) -> Crops:
        """Opens one split. Raises: DataError if scikit-learn's copies have another shape."""
        from sklearn.datasets import load_sample_images

        found, wanted = load_sample_images().images, (HEIGHT, WIDTH, 3)
        if [image.shape for image in found] != [wanted] * PHOTOGRAPHS:
            shapes = ", ".join(str(image.shape) for image in found)
            raise DataError(f"photos: found images of shape {shapes} in scikit-learn; {PHOTOGRAPHS} of {wanted} were expected")
        pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
        if split == "train":
            return Crops(pixels[..., :-HELD_OUT], self.size, per_image_uniform(self.crop_seed, "data/photos/train", 0, self.crops))
        return Crops(pixels[..., -HELD_OUT:], self.size, per_image_uniform(self.crop_seed, "data/photos/test", 0, self.held_out))


class Crops(Images):
    """Squares of a few large images in memory, labelled with the number of their image.

    Args:
        pixels: the large images, uint8, (M, C, H, W).
        size: side of the squares.
        places: image, top and left edge of each square as shares in [0, 1) of all possible ones, float64, (N, 3 or more).
    """

    in_memory = True

    def __init__(self, pixels: Tensor, size: int, places: Tensor) -> None:
        number, _, height, width = pixels.shape
        choices = torch.tensor([number, height - size + 1, width - size + 1])
        self.pixels = pixels.contiguous()
        self.size = size
        self.corners = (places[:, :3] * choices).long()
        self.device = pixels.device

    def __len__(self) -> int:
        return len(self.corners)

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        image, top, left = self.corners[torch.as_tensor(indices, dtype=torch.long)].to(self.device).unbind(1)
        squares = self.pixels.unfold(2, self.size, 1).unfold(3, self.size, 1)[image, :, top, left]
        return (squares if draws is None else draws.flipped(squares)), image

    def class_labels(self) -> Tensor:
        return self.corners[:, 0].to(self.device)

    def to(self, device: torch.device | str) -> Self:
        other = super().to(device)
        assert isinstance(other, type(self))
        other.pixels = self.pixels.to(device)
        return other

    def digest(self) -> str:
        """sha256 of the large images, the size and the corners."""
        content = hashlib.sha256(f"{tuple(self.pixels.shape)}{self.size}".encode())
        for tensor in (self.pixels, self.corners):
            content.update(tensor.cpu().numpy().tobytes())
        return content.hexdigest()
