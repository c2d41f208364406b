"""Data sets of images and labels, split by split.

A `Dataset` is a part of a recipe; `open` gives the `Images` of one split, which have random access by batches of indices.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from etsdm.data.images import Images
from etsdm.data.split import Split
from etsdm.registry import Part, datasets

__all__ = ["Dataset", "Files"]


class Files(NamedTuple):
    """Files that a recipe names. Fields: place, as written in the recipe; content, a digest, None if the files are missing."""

    place: str | None
    content: str | None


class Dataset(Part, family=datasets):
    """Images of one shape with a training and a test split.

    A new source is one subclass, registered in a module of `etsdm.data.sources`.

    Attributes:
        descriptive: names of the fields that change no image as long as the files are the same.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of class labels."""

    @property
    def pixels(self) -> Dataset | None:
        """The same images as pixels, None where there are latents alone."""
        return self

    @property
    def holds_latents(self) -> bool:
        """Whether its images are what a first stage made of images; see `Images.encoded`."""
        return False

    def check_training(self, first_stage: Part | None, weights_sha256: str | None, flips: bool) -> None:
        """Checks that a training can use the images, beside their shape.

        Args:
            first_stage: the model's, None without one.
            weights_sha256: of the file of its weights, None where it is missing.
            flips: whether images are mirrored at random.

        Raises:
            DataError: they were made for another training.
        """

    @property
    def crops_at_random(self) -> bool:
        """Whether its images take the crops of `Draws`."""
        return False

    @property
    def are_pictures(self) -> bool:
        """Whether its images are pictures, with values in [-1, 1]; points and other numbers have no grid in a report."""
        return True

    @property
    def holds_out(self) -> bool:
        """Whether the test split has images."""
        return True

    def check(self) -> None:
        """Checks that the images exist, without decoding one.

        Raises:
            DataError: they do not, or are not as declared; the message says how to get them and where to put them.
        """

    def check_files(self) -> Iterator[tuple[int, int]]:
        """Reads the headers of all images, before a training.

        Yields:
            The number of headers that were read, and of all.

        Raises:
            DataError: some are damaged, or of images that cannot be used; the message names them.
        """
        return iter(())

    def passed_over(self) -> dict[str, str]:
        """Images that a training does without, and why; see `on_error` of `EncodedDataset`."""
        return {}

    def files(self) -> Files | None:
        """Files that hold the images, with a quick fingerprint as their content; None where the fields determine the images."""
        return None

    def identity(self) -> dict[str, Any]:
        """The fields that select images of the files and say how they are read: the dump without `descriptive` fields."""
        return {field: value for field, value in self.model_dump(mode="json").items() if field not in self.descriptive}

    @abstractmethod
    def open(self, split: Split) -> Images:
        """Opens one split. Raises: DataError as `check`."""
