"""`release_dataset`: the data set that reads a published set where and as it was downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etsdm.data.dataset import Dataset
from etsdm.data.place import dataset_at
from etsdm.data.releases import RELEASES, ReleaseName
from etsdm.errors import DataError, PartError
from etsdm.registry import datasets
from etsdm.storage.faults import storage_errors

__all__ = ["release_dataset"]


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
        RegistryError: a field is not valid.
    """
    release = RELEASES[name]
    place = Path(source).expanduser()
    if not place.exists():
        raise DataError(f"{place}: is not there; {f'get {release.download}' if release.download else 'give a folder or an archive'}")
    size = release.size if size is None else size
    if name == "cifar10":
        if size != release.size:
            raise PartError("size", f"{size} is not the size of CIFAR-10's images; give {release.size}, or leave it out")
        for field in fields:
            raise PartError(field, "is of encoded images, and CIFAR-10 has pixels; leave it out")
        cifar10: Dataset = datasets.create("cifar10", path=str(place))
        return cifar10
    if fields.get("resize", "center-crop") == "center-crop":
        fields = {"filter": release.filter, **fields}
    place = place if name == "folder" else _within(place, release.layout)
    dataset = dataset_at(place, labelled=release.labelled, image_size=size, source=release.download, **fields)
    found, wanted = len(dataset.names()), release.images if count is None else count
    if wanted not in (None, found):
        mend = f"complete it, or if these are all, give --count {found}"
        raise DataError(f"{place}: holds {found:,} images, not {wanted:,}; {mend}")
    return dataset


def _within(place: Path, layout: str) -> Path:
    """The images of a release in the folder that a download was unpacked to."""
    parts = Path(layout).parts
    for k in range(len(parts)):
        below = place.joinpath(*parts[k:])
        if below.is_dir():
            return below
    return place
