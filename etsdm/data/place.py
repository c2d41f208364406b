"""`dataset_at`: the data set that reads the images of a folder, database or archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etsdm.data.encoded import EncodedDataset
from etsdm.data.labels import LABEL_FILE, parse_json_labels
from etsdm.data.listing import image_files
from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.storage.faults import storage_errors

__all__ = ["dataset_at"]

LMDB_FILE = "data.mdb"


@storage_errors()
def dataset_at(place: Path, *, labelled: bool = True, **fields: Any) -> EncodedDataset:
    """The data set of the images at a place: `image-folder`, `zip` or `lmdb`.

    Args:
        place: folder, LMDB database or zip archive.
        labelled: whether images of two or more sub-folders, or with labels in `dataset.json`, have class labels.
        fields: other fields of the data set.

    Raises:
        DataError: there are no images at the place.
        RegistryError: a field is not valid.
    """
    kind = _kind(place)
    dataset: EncodedDataset = datasets.create(kind, path=str(place), held_out=0, **fields)
    if labelled and _has_labels(dataset, dataset.names()):
        dataset = datasets.create(kind, path=str(place), held_out=0, **fields, classes="auto")
    return dataset


def _kind(place: Path) -> str:
    """Name of the data set that reads a place. Raises: DataError if it holds no images."""
    if place.is_file() and place.suffix.lower() == ".zip":
        return "zip"
    if place.name == LMDB_FILE or (place / LMDB_FILE).is_file():
        return "lmdb"
    if not place.is_dir():
        found = "is no folder, LMDB database or zip archive" if place.exists() else "is not there"
        raise DataError(f"{place}: {found}; give a folder of images, a folder with data.mdb, or a .zip")
    if not image_files(place):
        raise DataError(f"{place}: holds no PNG, JPEG or WebP images; give the folder that does")
    return "image-folder"


def _has_labels(dataset: EncodedDataset, names: Sequence[str]) -> bool:
    """Whether images have labels in `dataset.json`, or without it are in two or more sub-folders, as EDM's data set tool decides."""
    try:
        content = dataset.read(LABEL_FILE)
    except DataError:
        return all("/" in name for name in names) and len({name.partition("/")[0] for name in names}) > 1
    return parse_json_labels(content, dataset.location(LABEL_FILE)) is not None
