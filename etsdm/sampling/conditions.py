"""Conditioning inputs of samples by index: class labels, and the low-resolution images of super-resolution.

Sample k gets entry k mod N of a list of N entries, so its inputs depend neither on the number of samples nor on their batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from etsdm.data import Images
from etsdm.data.decode import EXTENSIONS, decode_exact
from etsdm.data.listing import image_files, read_file
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.denoisers.super_resolution import SuperResolution
from etsdm.errors import PartError
from etsdm.storage.faults import storage_errors

__all__ = ["Conditions", "LowRes", "ReducedImages", "read_low_res"]


class LowRes(Protocol):
    """Low-resolution images by number: a tensor (N, C, H / factor, W / factor), or `ReducedImages`."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int], /) -> Tensor: ...


@dataclass(frozen=True)
class Conditions:
    """Conditioning inputs of samples; a call with indices gives a row for each.

    Args:
        labels: class labels used in turn; None for an unconditional denoiser.
        low_res: low-resolution images in [-1, 1] used in turn; None without super-resolution.
    """

    labels: Sequence[int] | None = None
    low_res: LowRes | None = None

    def __call__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`y`, int64, (B,), and `low_res`, (B, C, H / factor, W / factor), of samples; each only where there is one."""
        inputs = {} if self.labels is None else {"y": self.class_labels(torch.as_tensor(indices))}
        if self.low_res is not None:
            inputs["low_res"] = self.low_res[[k % len(self.low_res) for k in indices]]
        return inputs

    def class_labels(self, indices: Tensor) -> Tensor:
        """Labels of samples, 0 without classes. Args: indices: int64, (N,). Returns: int64, (N,)."""
        labels = torch.tensor([0] if self.labels is None else list(self.labels))
        return labels[indices % len(labels)]


class ReducedImages:
    """The low-resolution images of a data set's split, reduced when they are read.

    Args:
        images: at full size.
        super_resolution: reduces them.
    """

    def __init__(self, images: Images, super_resolution: SuperResolution) -> None:
        self._images = images
        self._super_resolution = super_resolution

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return self._super_resolution.reduce(self._images.batch(indices).pixels)


@storage_errors()
def read_low_res(path: Path | str, spec: DenoiserSpec) -> Tensor:
    """Reads the low-resolution images of a super-resolution denoiser.

    Args:
        path: an image file, or a folder with its sub-folders.
        spec: of the denoiser.

    Returns:
        float32 in [-1, 1], (N, C, H / factor, W / factor), in the order of the files' names.

    Raises:
        PartError: the denoiser does no super-resolution, or the folder holds no images.
        DataError: a file cannot be read, or its image has another size.
    """
    if spec.super_resolution is None:
        raise PartError("low_res", "this denoiser does no super-resolution; leave it out")
    path = Path(path)
    channels, height, width = spec.image_shape
    factor = spec.super_resolution.factor
    files = [path / name for name in image_files(path)] if path.is_dir() else [path]
    if not files:
        raise PartError("low_res", f"{path} holds no images ({', '.join(EXTENSIONS)}); give a folder of them, or one file")
    size = {"width": width // factor, "height": height // factor, "channels": channels}
    images = [decode_exact(read_file(file), str(file), **size) for file in files]
    return torch.stack(images).float() / 127.5 - 1
