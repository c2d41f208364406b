"""Images in a folder and its sub-folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, ClassVar

from pydantic import Field

from etsdm.data.dataset import Files
from etsdm.data.decode import EXTENSIONS, Extension
from etsdm.data.encoded import EncodedDataset
from etsdm.data.labels import LABEL_FILE, Labels, named_labels, read_label_file
from etsdm.data.listing import image_files, open_file, quick_fingerprint, read_file
from etsdm.registry import datasets
from etsdm.storage.faults import storage_errors

__all__ = ["ImageFolder"]


@datasets.register("image-folder")
class ImageFolder(EncodedDataset):
    """PNG, JPEG and WebP images in a folder and its sub-folders, cropped to their middle square and reduced to one size.

    Images are ordered by their paths below `path`. Names that begin with a dot are skipped. A `dataset.json` in the folder, as
    StyleGAN2-ADA and EDM have, labels them. Other fields are those of `EncodedDataset`.

    Attributes:
        extensions: of the files that are images, in lower case and without a dot; other files are skipped.
    """

    container: ClassVar[str] = "folder"

    extensions: tuple[Extension, ...] = Field(EXTENSIONS, min_length=1)

    @storage_errors()
    def names(self) -> list[str]:
        """Paths below the folder. Raises: DataError if there is no folder, or no image in it."""
        if not self.root.is_dir():
            raise self.missing("is no folder")
        names = image_files(self.root, self.extensions)
        if not names:
            raise self.missing(f"holds no image files ({', '.join(self.extensions)})")
        return names

    def read(self, name: str) -> bytes:
        return read_file(self.root / name)

    def stream(self, name: str) -> IO[bytes]:
        return open_file(self.root / name)

    @storage_errors()
    def files(self) -> Files:
        """The folder and a quick fingerprint of its images; an empty folder counts as none."""
        names = image_files(self.root, self.extensions) if self.root.is_dir() else []
        return self._files(quick_fingerprint(self.root, [*names, *self._own_label_file()]) if names else None)

    def own_labels(self, names: Sequence[str]) -> Labels | None:
        """Those of `dataset.json`. Raises: DataError if it does not label these images."""
        for name in self._own_label_file():
            return named_labels(names, read_label_file(self.root / name), self.root / name, self.location)
        return None

    def _own_label_file(self) -> list[str]:
        used = self.classes is not None and self.labels is None and (self.root / LABEL_FILE).is_file()
        return [LABEL_FILE] if used else []
