"""A prepared set on disk: its images as a folder or zip archive in the layout of EDM's data set tool, and two files beside it.

    F/00000/img00000000.png, ..., F/dataset.json      or the same in F.zip, stored and not compressed
    F.sha256      sha256 of every file, in the format of the program sha256sum; its own sha256 is that of the set
    F.json        the record: originals, decoding, classes, duplicates, and images that were left out with the reason

PNG files are not compressed, as EDM's, which makes their bytes independent of the compression library and decoding fast. Numbers in names
are those of the originals in the order of their names; images that are left out leave a gap.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from torch import Tensor

from etsdm.data.labels import LABEL_FILE
from etsdm.storage.files import atomic_folder, open_atomically, write_atomically
from etsdm.storage.images import to_pil
from etsdm.storage.records import Record, write_record
from etsdm.storage.regular import MAX_IMAGE_BYTES, read_regular

__all__ = [
    "Entry",
    "PreparedSet",
    "container_of",
    "label_file",
    "manifest_of",
    "manifest_text",
    "png_of",
    "prepared_name",
    "record_of",
    "write_set",
]

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive holds
READABLE = 0o100644 << 16  # of a zip member: a regular file that all may read


class PreparedSet(Record):
    """Record of a prepared set.

    Attributes:
        release: the published set, or `folder`; empty for a data set of another kind.
        source: place of the originals, as given.
        source_fingerprint: of their files; None for a data set that comes with a library.
        decoding: crop, size, filter and other fields that pixels depend on.
        request: sha256 of all that the result depends on.
        container: folder or zip.
        images: number of images.
        class_names: in the order of their numbers, empty where they are numbers.
        class_counts: images of each class, empty without labels.
        set_sha256: of the file F.sha256.
        duplicates: groups of originals that have the same pixels.
        left_out: originals that the set does without, and why.
        versions: of the programs that wrote it.
    """

    FORMAT: ClassVar[int] = 1
    MEND: ClassVar[str] = "remove the prepared set and this record, and prepare the images again"

    release: str
    source: str
    source_fingerprint: str | None
    decoding: dict[str, Any]
    request: str
    container: Literal["folder", "zip"]
    images: int
    class_names: list[str]
    class_counts: list[int]
    set_sha256: str
    duplicates: list[list[str]]
    left_out: dict[str, str]
    versions: dict[str, str]


class Entry(NamedTuple):
    """A file of the set. Fields: name in it; file that has its content; sha256 of that, hexadecimal."""

    name: str
    file: Path
    sha256: str


def container_of(out: Path) -> Literal["folder", "zip"]:
    """Kind of a prepared set by its name."""
    return "zip" if out.suffix.lower() == ".zip" else "folder"


def record_of(out: Path) -> Path:
    """Path of the record of a prepared set."""
    return out.with_name(f"{out.name}.json")


def manifest_of(out: Path) -> Path:
    """Path of the list of sha256 of a prepared set."""
    return out.with_name(f"{out.name}.sha256")


def prepared_name(k: int) -> str:
    """Name of image k, as EDM's data set tool gives."""
    return f"{k // 1000:05d}/img{k:08d}.png"


def label_file(names: Sequence[str], labels: Sequence[int] | None) -> bytes:
    """`dataset.json` of EDM's layout."""
    found = None if labels is None else [[name, label] for name, label in zip(names, labels, strict=True)]
    return json.dumps({"labels": found}).encode()


def png_of(pixels: Tensor) -> bytes:
    """A PNG without compression. Args: pixels: uint8, (C, H, W)."""
    stream = io.BytesIO()
    to_pil(pixels).save(stream, "PNG", compress_level=0, optimize=False)
    return stream.getvalue()


def manifest_text(entries: Iterable[Entry], labels: bytes) -> str:
    """The list of sha256 of a set, as sha256sum writes it. Args: labels: content of `dataset.json`."""
    return "".join(f"{sha256}  {name}\n" for name, _, sha256 in [*entries, Entry(LABEL_FILE, Path(), hashlib.sha256(labels).hexdigest())])


def write_set(
    out: Path, record: PreparedSet, manifest: str, entries: Sequence[Entry], labels: bytes, progress: Callable[[int], None]
) -> None:
    """Writes a set, its list of sha256 and its record; nothing remains after a fault.

    Args:
        out: folder or zip archive, which does not exist.
        record: of the set.
        manifest: its `manifest_text`.
        entries: the images, in order.
        labels: content of `dataset.json`.
        progress: called with the number of images that are written.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        # The set itself comes last: where it is, it is whole and has its record.
        write_atomically(manifest_of(out), manifest)
        write_record(record_of(out), record)
        (_write_zip if record.container == "zip" else _write_folder)(out, entries, labels, progress)
    except BaseException:
        for file in (manifest_of(out), record_of(out)):
            file.unlink(missing_ok=True)
        raise


def _write_zip(out: Path, entries: Iterable[Entry], labels: bytes, progress: Callable[[int], None]) -> None:
    with open_atomically(out) as file, ZipFile(file, "w", ZIP_STORED) as archive:
        for k, entry in enumerate(entries, start=1):
            archive.writestr(_member(entry.name), read_regular(entry.file, MAX_IMAGE_BYTES))
            progress(k)
        archive.writestr(_member(LABEL_FILE), labels)


def _member(name: str) -> ZipInfo:
    member = ZipInfo(name, ZIP_TIME)
    member.create_system, member.external_attr = 3, READABLE  # as on Unix, wherever it is written
    return member


def _write_folder(out: Path, entries: Iterable[Entry], labels: bytes, progress: Callable[[int], None]) -> None:
    linked: set[Path] = set()
    with atomic_folder(out) as folder:
        for k, entry in enumerate(entries, start=1):
            target = folder / entry.name
            target.parent.mkdir(exist_ok=True)
            # Two names of one file would change together.
            if entry.file in linked or not _link(entry.file, target):
                shutil.copyfile(entry.file, target)
            linked.add(entry.file)
            progress(k)
        (folder / LABEL_FILE).write_bytes(labels)


def _link(file: Path, target: Path) -> bool:
    """Gives a file a second name, which takes no space. Returns: whether the file system has links."""
    try:
        os.link(file, target)
    except OSError:
        return False
    return True
