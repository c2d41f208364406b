"""`release_dataset`: the data set that reads a published set where and as it was downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etsdm.data.dataset import Dataset
from etsdm.data.encoded import EncodedDataset
from etsdm.data.labels import LABEL_FILE, parse_json_labels
from etsdm.data.listing import image_files
from etsdm.data.releases import RELEASES, ReleaseName
from etsdm.errors import DataError, PartError
from etsdm.registry import datasets
from etsdm.storage.faults import storage_errors

__all__ = ["release_dataset"]

LMDB_FILE = "data.mdb"


@storage_errors()
def release_dataset(name: ReleaseName, source: str | Path, *, size: int | None = None, count: int | None = None, **fields: Any) -> Dataset:
    """The data set of a published set's training images, all of them.

    Args:
        name: of the published set, or `folder` for images of any origin.
        source: folder, LMDB database, zip archive, or CIFAR-10's archive; a folder may hold that of the release at its usual place.
        size: side in pixels, by default that of the release.
        count: required number of images, by default that of the release; CIFAR-10's is checked by its files.
        fields: other fields of an `EncodedDataset`, such as `background`.

    Raises:
        DataError: the images are not there, or are not so many.
        PartError: a value does not suit the release.
    """
    release = RELEASES[name]
    place = Path(source).expanduser()
    if not place.exists():
        raise DataError(f"{place}: is not there; {f'get {release.download}' if release.download else 'give a folder or an archive'}")
    size = release.size if size is None else size
    if name == "cifar10":
        if size != release.size:
            raise PartError("size", f"{size} is not the size of CIFAR-10's images; give {release.size}, or leave it out")
        if fields:
            raise PartError(next(iter(fields)), "is of encoded images, and CIFAR-10 has pixels; leave it out")
        cifar10: Dataset = datasets.create("cifar10", path=str(place))
        return cifar10
    place = _within(place, release.layout) if name != "folder" else place
    fields = {"path": str(place), "image_size": size, "held_out": 0, "source": release.download, **fields}
    if fields.get("resize", "center-crop") == "center-crop":
        fields = {"filter": release.filter, **fields}
    dataset: Dataset = datasets.create(_type(place), **fields)
    assert isinstance(dataset, EncodedDataset)
    names = dataset.names()
    wanted = release.images if count is None else count
    if wanted not in (None, len(names)):
        message = f"{place}: holds {len(names):,} images, not {wanted:,}"
        raise DataError(f"{message}; complete it, or if these are all, give count={len(names)}")
    if release.labelled and _has_labels(dataset, names):
        dataset = datasets.create(_type(place), **fields, classes="auto")
    return dataset


def _within(place: Path, layout: str) -> Path:
    """The images of a release in the folder that a download was unpacked to."""
    parts = Path(layout).parts
    for k in range(len(parts)):
        below = place.joinpath(*parts[k:])
        if below.is_dir():
            return below
    return place


def _type(place: Path) -> str:
    """Name of the data set that reads a place. Raises: DataError if it holds no images."""
    if place.is_file() and place.suffix.lower() == ".zip":
        return "zip"
    if place.name == LMDB_FILE or (place / LMDB_FILE).is_file():
        return "lmdb"
    if not place.is_dir():
        raise DataError(f"{place}: is no folder, LMDB database or zip archive; unpack it, or give another place")
    if not image_files(place):
        raise DataError(f"{place}: holds no PNG, JPEG or WebP images; give the folder that does")
    return "image-folder"


def _has_labels(dataset: EncodedDataset, names: Sequence[str]) -> bool:
    """Whether images have labels in `dataset.json`, or are in two or more sub-folders, as EDM's data set tool decides."""
    try:
        content = dataset.read(LABEL_FILE)
    except DataError:
        return all("/" in name for name in names) and len({name.partition("/")[0] for name in names}) > 1
    return parse_json_labels(content, dataset.location(LABEL_FILE)) is not None
