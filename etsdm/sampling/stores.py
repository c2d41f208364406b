"""Stores of generated images: the interface of a sampling job, and a folder that belongs to one protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from torch import Tensor

from etsdm.storage.faults import storage_errors
from etsdm.storage.files import locked

__all__ = ["FolderStore", "Store"]


class Store(Protocol):
    """Destination of generated images, each written whole or not at all."""

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored."""

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Stores images. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""


class FolderStore(ABC):
    """A folder of images that belong to one digest; every file says whose it is, and verifies itself.

    Args:
        path: folder; need not exist.
        digest: sha256 of everything that the images depend on besides their indices.
        images: the folder of the image files, `path` or a folder in it.
    """

    def __init__(self, path: Path | str, digest: str, images: Path) -> None:
        self.path = Path(path)
        self.digest = digest
        self.images = images

    @abstractmethod
    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored, or not whole."""

    @abstractmethod
    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Stores images. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""

    def locked(self, rank: int = 0) -> AbstractContextManager[None]:
        """Locks the share of one rank. Raises: IntegrityError while another process holds it."""
        held = f"another process generates images here as rank {rank}; wait for it, or give each process its own rank"
        return locked(self.path, f".lock-{rank}", held, also=(self.images,))

    def _make(self) -> None:
        with storage_errors(self.images):
            self.images.mkdir(parents=True, exist_ok=True)
