"""Stores of generated images: the interface of a sampling job, and a folder that belongs to one protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from etsdm.storage.faults import storage_errors
from etsdm.storage.files import locked, read_record, write_record

__all__ = ["FolderStore", "Store"]


class Store(Protocol):
    """Destination of generated images, each written whole or not at all."""

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored."""

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Stores images. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""


class FolderStore(ABC):
    """A folder of images that belong to one digest, which `job.json` records together with the number of images requested.

    Args:
        path: folder; need not exist.
        digest: sha256 of everything that the images depend on besides their indices.
        images: the folder of the image files, `path` or a folder in it.
        protocol: JSON values behind the digest, for the record.
    """

    def __init__(self, path: Path, digest: str, images: Path, protocol: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.digest = digest
        self.images = images
        self.job_file = path / "job.json"
        self._protocol = {} if protocol is None else {"protocol": dict(protocol)}

    @abstractmethod
    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that are not stored."""

    @abstractmethod
    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Stores images. Args: images: float32, (len(indices), C, H, W), in [-1, 1]."""

    @abstractmethod
    def _admit(self, job: Mapping[str, Any], n: int) -> None:
        """Clears or refuses a folder whose record is `job`, empty without one, before n images of this digest go into it."""

    def open_for(self, n: int) -> None:
        """Makes the folder, and records that it holds images 0 to n - 1 of this digest.

        Raises:
            IntegrityError: the folder holds something that must not be replaced.
            StorageError: it cannot be made or written to.
        """
        self._make()
        job = read_record(self.job_file)
        self._admit(job, n)
        record = {"protocol_digest": self.digest, "images": n, **self._protocol}
        if job != record:
            write_record(self.job_file, record)

    def locked(self, rank: int = 0) -> AbstractContextManager[None]:
        """Locks the share of one rank. Raises: IntegrityError while another process holds it."""
        held = f"another process generates images here as rank {rank}; wait for it, or give each process its own rank"
        return locked(self.path, f".lock-{rank}", held, also=(self.images,))

    def is_ours(self) -> bool:
        """Whether the folder's images belong to this digest."""
        return read_record(self.job_file).get("protocol_digest") == self.digest

    def _make(self) -> None:
        with storage_errors(self.images):
            self.images.mkdir(parents=True, exist_ok=True)
