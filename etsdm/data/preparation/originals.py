"""The images that are prepared, by number, with their class labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.data.dataset import Dataset
from etsdm.data.encoded import EncodedDataset
from etsdm.data.images import Images
from etsdm.data.labels import folder_labels
from etsdm.data.stored import SplitDataset
from etsdm.errors import DataError

__all__ = ["Classes", "Originals", "originals_of"]


class Classes(NamedTuple):
    """Class labels. Fields: numbers, one an image; names of the classes, empty where they are numbers."""

    numbers: Sequence[int]
    names: tuple[str, ...] = ()


class Originals(ABC):
    """Images of a data set, before they are prepared; all methods may be called from several threads at once.

    Attributes:
        names: of the images, in the order of the result.
        classes: their labels, None without.
    """

    names: Sequence[str]
    classes: Classes | None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def content(self, k: int) -> bytes:
        """Stored content of image k. Raises: DataError if it cannot be read."""

    @abstractmethod
    def pixels(self, k: int, content: bytes) -> Tensor:
        """Pixels of image k as a training sees them, uint8, (C, H, W). Args: content: of the image. Raises: DataError if it is damaged."""

    @abstractmethod
    def decoding(self) -> dict[str, Any]:
        """Settings of the decoding, as JSON values."""


class EncodedOriginals(Originals):
    """Images of a folder or an archive."""

    def __init__(self, dataset: EncodedDataset) -> None:
        self._dataset = dataset.model_copy(update={"held_out": 0, "on_error": "stop", "count": None})
        images = self._dataset.open("train")
        self.names, self.classes = images.names, None
        if dataset.classes is not None:
            from_folders = dataset.labels is None and self._dataset.own_labels(images.names) is None
            names = folder_labels(images.names, dataset.location).names if from_folders else ()
            self.classes = Classes(images.labels.tolist(), names)

    def content(self, k: int) -> bytes:
        return self._dataset.read(self.names[k])

    def pixels(self, k: int, content: bytes) -> Tensor:
        return self._dataset.decode_content(content, self.names[k])

    def decoding(self) -> dict[str, Any]:
        return self._dataset.decoding()


class StoredOriginals(Originals):
    """Images that are stored as pixels. Args: images: uint8 levels; labelled: whether their labels are classes."""

    def __init__(self, images: Images, *, labelled: bool) -> None:
        self._images = images
        stored = images.read([0])[0]
        if stored.dtype != torch.uint8:
            raise DataError(f"data: images are of {stored.dtype}; only images of 8 bits a channel can be prepared")
        self._shape = stored.shape[1:]
        self.names = [f"image {k}" for k in range(len(images))]
        self.classes = Classes(images.class_labels().tolist()) if labelled else None

    def content(self, k: int) -> bytes:
        return self._images.read([k])[0].contiguous().numpy().tobytes()

    def pixels(self, k: int, content: bytes) -> Tensor:
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(self._shape)

    def decoding(self) -> dict[str, Any]:
        return {"shape": list(self._shape)}


def originals_of(dataset: Dataset) -> Originals:
    """The images of a data set: all of one whose test split is drawn, else its training split."""
    if isinstance(dataset, SplitDataset):
        dataset = dataset.model_copy(update={"held_out": 0, "count": None})
    if isinstance(dataset, EncodedDataset):
        return EncodedOriginals(dataset)
    return StoredOriginals(dataset.open("train"), labelled=dataset.num_classes > 1)
