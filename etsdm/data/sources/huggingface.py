"""Images of data sets of the Hugging Face hub, or in their layout, read by the library `datasets`."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from etsdm.data.dataset import Files
from etsdm.data.encoded import EncodedDataset
from etsdm.data.labels import Labels, labels_of
from etsdm.data.listing import quick_fingerprint, read_file, sampled_fingerprint
from etsdm.data.names import PackedNames
from etsdm.data.opened import OpenedOnce, state_of
from etsdm.errors import DataError, PartError
from etsdm.registry import datasets, suggestion
from etsdm.registry.optional import optional_library
from etsdm.registry.paths import HUB
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of

__all__ = ["HuggingFace"]

COMMIT = re.compile(r"[0-9a-f]{40}")
SAVED = ("state.json", "dataset_dict.json")  # of `save_to_disk`
DIGITS = 9  # of a row's number, as the name of its image
FEW_FILES = 100


class Source(NamedTuple):
    """Part of a data set.

    Fields: path, a folder or `hf-hub:` and a repository; config; split; revision, a commit; names of the columns, None to find them.
    """

    path: str
    config: str | None
    split: str
    revision: str | None
    image: str | None
    label: str | None

    @property
    def on_hub(self) -> bool:
        """Whether it is a repository of the hub."""
        return self.path.startswith(HUB)


class Table(NamedTuple):
    """An opened part.

    Fields: images, a `datasets.Dataset` of the column of images alone, encoded; column, its name; labels, None without such a column;
    folder of image files that the table refers to.
    """

    images: Any
    column: str
    labels: Labels | None
    folder: Path


def _open(source: Source) -> Table:
    library = optional_library("datasets", "data set 'huggingface'", "'etsdm[hf]'")
    rows, place = _rows(library, source), source.path
    types = {name: type(feature).__name__ for name, feature in rows.features.items()}
    image = _column(source.image, types, "Image", "image", place)
    if image is None:
        raise DataError(f"{place}: has no column of images ({', '.join(types)}); name one with data.image")
    label = _column(source.label, types, "ClassLabel", "label", place)
    labels = None
    if label is not None:
        labels = labels_of(list(rows[label]), f"{place}, column {label}")
        if names := tuple(getattr(rows.features[label], "names", None) or ()):
            labels = Labels(labels.numbers, names)
    folder = Path(library.config.HF_CACHE_HOME if source.on_hub else place)
    return Table(rows.select_columns([image]).cast_column(image, library.Image(decode=False)), image, labels, folder)


def _rows(library: ModuleType, source: Source) -> Any:
    """The part as a `datasets.Dataset`. Raises: DataError if the library cannot open it."""
    try:
        if source.on_hub:
            return library.load_dataset(source.path.removeprefix(HUB), source.config, split=source.split, revision=source.revision)
        if not any((Path(source.path) / name).is_file() for name in SAVED):
            return library.load_dataset(source.path, source.config, split=source.split)
        saved = library.load_from_disk(source.path)
        return saved[source.split] if isinstance(saved, library.DatasetDict) else saved
    except Exception as error:  # of the library, of pyarrow, of the network and of the disk
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = type(error).__name__
        mend = "check the name, config, split and revision, and the network" if source.on_hub else "check the folder, config and split"
        raise DataError(f"data.path: {source.path}: cannot be opened ({kind}: {first}); {mend}") from error


def _column(given: str | None, types: Mapping[str, str], kind: str, field: str, place: str) -> str | None:
    """Name of a column, the given one or the first of a kind, None without one."""
    if given is None:
        return next((name for name, found in types.items() if found == kind), None)
    if given not in types:
        raise DataError(f"data.{field}: {place} has no column {given!r}; {suggestion(given, types, 'it has')}")
    return given


def _state(source: Source) -> Hashable:
    folder = Path(source.path)
    return source.on_hub or tuple((name, state_of(folder / name)) for name in _folder_files(folder))


def _folder_files(folder: Path) -> list[str]:
    """Files of a folder in a fixed order, without hidden ones."""
    found = []
    for here, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [(Path(here) / name).relative_to(folder).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


opened: OpenedOnce[Source, Table] = OpenedOnce(_open, _state)


@datasets.register("huggingface")
class HuggingFace(EncodedDataset):
    """Images of a data set in the layouts of Hugging Face's library `datasets`.

    `path` is a folder, as `save_to_disk` writes or `load_dataset` reads it, or `hf-hub:owner/name` for a repository of the hub, which the
    library downloads to its own cache. Images are its rows in their order, and decoded here from their bytes. Other fields are those of
    `EncodedDataset`.

    Attributes:
        config: configuration of the data set, if it has several.
        split: the split whose rows these are, which `held_out` divides.
        revision: commit of the repository; the hub's data may change, a commit does not.
        image: column of the images; the first of type Image by default.
        label: column of the labels; the first of type ClassLabel by default.
        streaming: refused.
    """

    container: ClassVar[str] = "folder"

    config: str | None = None
    split: str = Field("train", min_length=1)
    revision: str | None = None
    image: str | None = None
    label: str | None = None
    streaming: bool = False

    @model_validator(mode="after")
    def _has_random_access(self) -> Self:
        if self.streaming:
            reason = "a stream gives its rows in one order, and training needs any image at any time, to shuffle and to resume exactly"
            raise PartError("streaming", f"{reason}; leave it out, and the rows are kept on the disk")
        if self.path.startswith(HUB) and not COMMIT.fullmatch(self.revision or ""):
            found = "is missing" if self.revision is None else f"{self.revision!r} is no commit"
            raise PartError("revision", f"{found}, and the hub's data may change; give the 40 hexadecimal digits of one")
        return self

    @property
    def root(self) -> Path:
        return Path(self.path) if self.path.startswith(HUB) else super().root

    @storage_errors()
    def names(self) -> Sequence[str]:
        """Numbers of the rows. Raises: DataError if there is no such data set; LibraryError without the library datasets."""
        if not self._source.on_hub and not self.root.is_dir():
            raise self.missing("is no folder", f", or a repository with data.path={HUB}OWNER/NAME")
        return PackedNames(f"{k:0{DIGITS}d}" for k in range(len(opened(self._source).images)))

    def read(self, name: str) -> bytes:
        table = opened.last(self._source)
        found = table.images[int(name)][table.column] or {}
        if found.get("bytes") is not None:
            return bytes(found["bytes"])
        if not found.get("path"):
            raise DataError(f"{self.location(name)}: has no image; remove the row, or set data.on_error=skip")
        file = Path(found["path"])
        if not file.resolve().is_relative_to(table.folder.resolve()):
            raise DataError(f"{self.location(name)}: refers to {file}, which is not in {table.folder}; it was not read, remove the row")
        return read_file(file)

    def own_labels(self, names: Sequence[str]) -> Labels:
        """Those of the column. Raises: DataError if there is none."""
        labels = opened(self._source).labels
        if labels is None:
            raise DataError(f"{self.root}: has no column of class labels; name one with data.label, or set data.classes=null for no labels")
        return labels

    @storage_errors()
    def files(self) -> Files:
        """The folder, and a quick fingerprint of its files; or the repository, and its commit."""
        if self._source.on_hub:
            return self._files(digest_of([self.path, self.config, self.split, self.revision]))
        names = _folder_files(self.root)
        if len(names) > FEW_FILES:
            return self._files(quick_fingerprint(self.root, names))
        return self._files(sampled_fingerprint([self.root / name for name in names]) if names else None)

    @property
    def _source(self) -> Source:
        return Source(str(self.root), self.config, self.split, self.revision, self.image, self.label)
