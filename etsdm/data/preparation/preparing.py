"""`prepare_images`: decodes, crops and resizes all images of a data set, once, into a folder or zip archive."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from PIL import __version__ as pillow_version

from etsdm.data.dataset import Dataset
from etsdm.data.preparation.originals import Originals, originals_of
from etsdm.data.preparation.prepared import (
    Entry,
    PreparedSet,
    container_of,
    label_file,
    manifest_of,
    manifest_text,
    png_of,
    prepared_name,
    record_of,
    write_set,
)
from etsdm.data.preparation.unfinished import Finished, Unfinished
from etsdm.data.stored import StoredDataset
from etsdm.errors import DataError, IntegrityError, PartError, printable
from etsdm.storage.files import digest_of, remove_leftovers
from etsdm.storage.records import read_record

__all__ = ["prepare_images"]

MAX_FAULTS = 8  # images in a message
AHEAD = 8  # images for each worker that are begun before they are needed

Progress = Callable[[str, int, int], None]


def prepare_images(
    dataset: Dataset,
    out: str | Path,
    *,
    release: str = "",
    on_error: Literal["stop", "skip"] = "stop",
    duplicates: Literal["keep", "drop"] = "keep",
    workers: int = 1,
    progress: Progress = lambda title, done, total: None,
) -> PreparedSet:
    """Writes all images of a data set as it decodes them; see `etsdm.data.preparation.prepared` for the layout.

    The bytes that are written do not depend on the number of workers. What was finished is kept in F.unfinished until the set is whole, and
    is not decoded again; a set that is there already is left as it is.

    Args:
        dataset: such as `release_dataset` gives; of one with a test split of its own, the training split.
        out: folder, or zip archive by its suffix.
        release: name of the published set, for the record.
        on_error: `stop` after the last image, with those that cannot be used in the message, or `skip` them and list them in the record.
        duplicates: whether all or the first of several images of the same pixels are written; the record lists them in both cases.
        workers: threads.
        progress: called with a title, the number of images that are done, and of all.

    Returns:
        The record beside the set.

    Raises:
        DataError: the images are missing, or with `stop` some cannot be used.
        IntegrityError: something else is at `out`, or in F.unfinished.
        PartError: `out` is in the folder of the originals.
        StorageError: nothing more can be written; what was finished stays.
    """
    place = Path(out).expanduser().absolute()
    stored = dataset if isinstance(dataset, StoredDataset) else None
    if stored is not None and stored.root.is_dir() and place.resolve().is_relative_to(stored.root.resolve()):
        raise PartError("out", f"{place} is in the folder of the originals, {stored.root}; give another place")
    originals = originals_of(dataset)
    found = dataset.files()
    fingerprint = found.content if found else None
    classes = originals.classes
    options = {"on_error": on_error, "duplicates": duplicates, "container": container_of(place), "pillow": pillow_version}
    facts = [fingerprint or digest_of(dataset.identity()), originals.decoding(), options, None if classes is None else list(classes)]
    request = digest_of(facts)
    unfinished = Unfinished(place.with_name(f"{place.name}.unfinished"), originals.decoding())
    if place.exists() or place.is_symlink():
        return _present(place, request, unfinished)
    with unfinished.opened():
        remove_leftovers(place.parent, place.name)
        images, left_out = _finish_all(originals, unfinished, workers, progress)
        if on_error == "stop" and left_out:
            raise _faults(left_out)
        groups = _duplicates(images)
        if duplicates == "drop":
            for first, *others in groups:
                left_out |= dict.fromkeys(others, f"has the pixels of {originals.names[first]}")
        kept = [k for k in range(len(originals)) if k not in left_out]
        if not kept:
            raise _faults(left_out)
        names = [prepared_name(k) for k in kept]
        labels = None if classes is None else [classes.numbers[k] for k in kept]
        table = label_file(names, labels)
        entries = [Entry(name, unfinished.file(images[k]), images[k].png.hex()) for name, k in zip(names, kept, strict=True)]
        manifest = manifest_text(entries, table)
        record = PreparedSet(
            release=release,
            source="" if stored is None else stored.path,
            source_fingerprint=fingerprint,
            decoding=originals.decoding(),
            request=request,
            container=container_of(place),
            images=len(kept),
            class_names=[] if classes is None else [printable(name) for name in classes.names],
            class_counts=[] if labels is None else _counts(labels, 0 if classes is None else len(classes.names)),
            set_sha256=hashlib.sha256(manifest.encode()).hexdigest(),
            duplicates=[[printable(originals.names[k]) for k in group] for group in groups],
            left_out={printable(originals.names[k]): reason for k, reason in sorted(left_out.items())},
            versions={"etsdm": version("etsdm"), "pillow": pillow_version},
        )
        write_set(place, record, manifest, entries, table, lambda done: progress("write", done, len(entries)))
        unfinished.remove()
    return record


def _present(place: Path, request: str, unfinished: Unfinished) -> PreparedSet:
    """The record of a set that is there. Raises: IntegrityError if it is another one."""
    record = read_record(record_of(place), PreparedSet)
    others = ", ".join(str(file.name) for file in (manifest_of(place), record_of(place)) if file.exists())
    mend = f"remove it{f' with {others}' if others else ''}, or give another place"
    if record is None:
        raise IntegrityError(f"{place}: exists, and has no record of a preparation; {mend}")
    if record.request != request:
        raise IntegrityError(f"{place}: was prepared from other images or in another way; {mend}")
    unfinished.remove()
    return record


def _finish_all(
    originals: Originals, unfinished: Unfinished, workers: int, progress: Progress
) -> tuple[dict[int, Finished], dict[int, str]]:
    """Finishes all images. Returns: images by number, and the messages of those that cannot be used."""
    images: dict[int, Finished] = {}
    faults: dict[int, str] = {}

    def finish(k: int) -> Finished | str:
        try:
            content = originals.content(k)
            original = hashlib.sha256(content).digest()
            if found := unfinished.find(original):
                return found
            pixels = originals.pixels(k, content)
        except DataError as error:
            return str(error)
        shape = ",".join(map(str, pixels.shape)).encode()
        return unfinished.add(original, png_of(pixels), hashlib.sha256(shape + pixels.contiguous().numpy().tobytes()).digest())

    for k, result in enumerate(_in_order(finish, len(originals), workers)):
        if isinstance(result, str):
            faults[k] = result
        else:
            images[k] = result
        progress("prepare", k + 1, len(originals))
    return images, faults


def _in_order(finish: Callable[[int], Finished | str], count: int, workers: int) -> Iterator[Finished | str]:
    """Results for 0, 1, ..., computed in threads."""
    pool = ThreadPoolExecutor(workers, "etsdm-prepare")
    waiting: deque[Future[Finished | str]] = deque()
    try:
        for k in range(count):
            waiting.append(pool.submit(finish, k))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _duplicates(images: dict[int, Finished]) -> list[list[int]]:
    """Groups of images that have the same pixels, in the order of their first ones."""
    groups: dict[bytes, list[int]] = {}
    for k, image in images.items():
        groups.setdefault(image.pixels, []).append(k)
    return [group for group in groups.values() if len(group) > 1]


def _counts(labels: list[int], classes: int) -> list[int]:
    """Images of each class."""
    counts = [0] * max(classes, max(labels) + 1)
    for label in labels:
        counts[label] += 1
    return counts


def _faults(messages: dict[int, str]) -> DataError:
    lines = list(messages.values())
    more = [f"and {len(lines) - MAX_FAULTS} more images"] if len(lines) > MAX_FAULTS else []
    mend = "nothing was written but finished images, which are kept: mend these and run again, or leave them out with --on-error skip"
    return DataError("\n".join([*lines[:MAX_FAULTS], *more, f"{len(lines)} images cannot be used; {mend}"]))
