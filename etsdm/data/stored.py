"""Data sets in files of the user: their place, their split, and the message for files that are missing."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from etsdm.data.dataset import Dataset, Files
from etsdm.data.split import HeldOut, Split, refuse_empty_split, split_indices
from etsdm.errors import DataError
from etsdm.registry.counts import ImageCount, Seed
from etsdm.registry.paths import FilePath

__all__ = ["SplitDataset", "StoredDataset"]


class StoredDataset(Dataset):
    """Images in files.

    Attributes:
        path: where the images are; relative to the recipe's file, or to the working directory if it is given elsewhere.
        source: name of the published set and where to download it, for the message when images are missing.
        container: kind of place that `path` is, for messages.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset({"path", "source"})
    container: ClassVar[str] = "file"

    path: FilePath = Field(min_length=1)
    source: str = ""

    @abstractmethod
    def files(self) -> Files:
        """The container's `path` and a quick fingerprint, None if it has no images. Raises: DataError if a file cannot be read."""

    @property
    def root(self) -> Path:
        """`path` as an absolute path."""
        return Path(self.path).expanduser().absolute()

    @property
    @abstractmethod
    def _expected(self) -> str:
        """The images that are expected in the container, for messages."""

    @property
    def _preparation(self) -> str | None:
        """The command that makes the container of what is downloaded, for messages; None if none is needed."""
        return None

    def missing(self, found: str, mend: str = "") -> DataError:
        """The error for images that are not at `path`.

        Args:
            found: what is there instead.
            mend: another mend than to put the images there, after a semicolon.
        """
        lines = [
            f"data.path: {self.root} {found}",
            f"expected in this {self.container}: {self._expected}",
            *([f"get {self.source}"] if self.source else []),
            *([f"prepare the download with {self._preparation}"] if self._preparation else []),
            f"put the images there, or name another {self.container} with data.path={self.container.split()[-1].upper()}{mend}",
        ]
        return DataError("\n".join(lines))


class SplitDataset(StoredDataset):
    """Images in files without a test split of their own, which is drawn from a seed.

    Attributes:
        held_out: the test split, as a share below 1 or a whole number of images; 0 trains on all.
        split_seed: seed of the split.
        count: required number of images; None for any.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset({"path", "count", "source"})

    held_out: HeldOut = 0.1
    split_seed: Seed = 0
    count: ImageCount | None = None

    @model_validator(mode="after")
    def _splits_have_images(self) -> Self:
        if self.count is not None:
            refuse_empty_split(self.count, self.held_out)
        return self

    @property
    def holds_out(self) -> bool:
        """Whether `held_out` is above 0."""
        return self.held_out > 0

    def _check_count(self, n: int) -> None:
        """Compares the number of images with `count`. Raises: `missing` if there are others, or none."""
        if not n:
            raise self.missing("holds no images")
        if self.count not in (None, n):
            raise self.missing(f"holds {n} images, not {self.count}", f"; if these are all, set data.count={n}")

    def _rows(self, n: int, split: Split) -> Tensor:
        """Indices of the images of a split, of n. Raises: DataError as `split_indices`."""
        return split_indices(n, self.held_out, self.split_seed, split)
