"""Data sets of encoded images, PNG, JPEG or WebP: labels, split, decoding and messages, shared by folders and archives."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from etsdm.data import unusable
from etsdm.data.augmentation import Draws
from etsdm.data.dataset import Dataset, Files
from etsdm.data.decode import Background, Filter, Resize, check_header, decode_resized
from etsdm.data.images import Images, LoadedImages
from etsdm.data.split import HeldOut, Split, refuse_empty_split, split_indices
from etsdm.errors import DataError, PartError
from etsdm.registry.counts import Classes, ImageCount, ImageSize, Seed
from etsdm.registry.paths import FilePath
from etsdm.storage.files import digest_of

__all__ = ["EncodedDataset", "EncodedImages"]

MAX_FOLDERS_LISTED = 8  # in a message
MAX_REFUSED = 8  # images in a message
HEADERS_AT_A_TIME = 256
CHUNK = 8  # images that a thread decodes at a time

S = TypeVar("S")
T = TypeVar("T")


class EncodedDataset(Dataset):
    """Encoded images by name, cropped to their middle square and reduced to one size as they are read.

    A source (a folder, an archive) is a subclass with `names`, `read` and `files`. Image k is the k-th of `names`.

    Attributes:
        path: where the images are; relative to the recipe's file, or to the working directory if it is given elsewhere.
        image_size: side in pixels; smaller images are refused.
        channels: 3 for RGB, 1 for grey.
        classes: number of top-level sub-folders, which are classes, labelled in the order of their names; `auto` for as many as there are,
            None for no labels.
        resize: `center-crop` for the middle square of the shorter side, `lanczos` or `area` for the whole image, squeezed to a square by
            that filter, `none` for images that have the size.
        filter: Pillow's resampling filter of `center-crop`.
        draft: decodes a JPEG at a half, a quarter or an eighth, where that has twice the pixels a side: faster, and slightly other pixels.
        background: colour behind transparent pixels, `white` or `black`; None refuses images that are transparent in places.
        on_error: `stop` at the first image that cannot be used, or `skip`: decode all images once before anything is read, and do without
            those that cannot be used, which the report lists.
        held_out: the test split, as a share below 1 or a whole number of images; 0 trains on all.
        split_seed: seed of the split.
        count: required number of images; None for any.
        source: name of the published set and where to download it, for the message when images are missing.
        container: kind of place that `path` is, for messages.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset({"path", "count", "source"})
    container: ClassVar[str] = "archive"

    path: FilePath = Field(min_length=1)
    image_size: ImageSize
    channels: Literal[1, 3] = 3
    classes: Classes | Literal["auto"] | None = None
    resize: Resize = "center-crop"
    filter: Filter = "lanczos"
    draft: bool = False
    background: Background | None = None
    on_error: Literal["stop", "skip"] = "stop"
    held_out: HeldOut = 0.1
    split_seed: Seed = 0
    count: ImageCount | None = None
    source: str = ""

    @model_validator(mode="after")
    def _splits_have_images(self) -> Self:
        if self.count is not None:
            refuse_empty_split(self.count, self.held_out)
        if self.resize != "center-crop" and "filter" in self.model_fields_set:
            raise PartError("filter", f"is of center-crop, and resize is {self.resize!r}; leave it out")
        return self

    @abstractmethod
    def names(self) -> list[str]:
        """Lists the images in a fixed order, with `/` between folder and file. Raises: `missing` if the container is not there."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Reads one encoded image, also from several threads at once and in forked processes. Raises: DataError if it cannot."""

    def stream(self, name: str) -> IO[bytes]:
        """Opens one encoded image, of which the header alone may be read. Raises: DataError as `read`."""
        return BytesIO(self.read(name))

    @abstractmethod
    def files(self) -> Files:
        """The container's `path` and a quick fingerprint, None if it has no images. Raises: DataError if a file cannot be read."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, image_size, image_size)."""
        return self.channels, self.image_size, self.image_size

    @property
    def num_classes(self) -> int:
        """`classes`, or 1 without labels. Raises: DataError if they are to be counted and the images are missing."""
        if self.classes == "auto":
            return len({name.partition("/")[0] for name in self.names()})
        return self.classes or 1

    @property
    def crops_at_random(self) -> bool:
        """Whether a square of the image is read."""
        return self.resize == "center-crop"

    @property
    def holds_out(self) -> bool:
        """Whether `held_out` is above 0."""
        return self.held_out > 0

    @property
    def root(self) -> Path:
        """`path` as an absolute path."""
        return Path(self.path).expanduser().absolute()

    def check(self) -> None:
        """Lists the images and decodes none.

        Raises:
            DataError: they are missing, are not `count` images in `classes` classes, or none is left for training.
        """
        names, _ = self._listed()
        split_indices(len(names), self.held_out, self.split_seed, "train")

    def check_files(self) -> Iterator[tuple[int, int]]:
        """Reads the headers of all images, held-out ones too, and with `skip` decodes them; see `Dataset.check_files`."""
        if self.on_error == "skip":
            yield from self._find_unusable()
            return
        names, refused = self.names(), list[str]()
        for start in range(0, len(names), HEADERS_AT_A_TIME):
            block = names[start : start + HEADERS_AT_A_TIME]
            refused += filter(None, _map_in_threads(self._refusal, block))
            yield start + len(block), len(names)
        if refused:
            more = [f"and {len(refused) - MAX_REFUSED} more images"] if len(refused) > MAX_REFUSED else []
            raise DataError("\n".join([*refused[:MAX_REFUSED], *more]))

    def passed_over(self) -> dict[str, str]:
        """Images that cannot be used, and why, where `on_error` is `skip`; the first call decodes all images."""
        if self.on_error == "stop":
            return {}
        for _ in self._find_unusable():
            pass
        return unusable.recall(self._decoding_digest) or {}

    def open(self, split: Split) -> EncodedImages:
        """Opens one split and decodes no image yet, or all of them once with `skip`. Raises: DataError as `check`."""
        names, labels = self._listed()
        passed_over = self.passed_over()
        if passed_over:
            kept = [i for i, name in enumerate(names) if name not in passed_over]
            if not kept:
                first = next(iter(passed_over.values()))
                raise DataError(f"data.path: none of the {len(names)} images in {self.root} can be used, for example {first}")
            names, labels = [names[i] for i in kept], labels[kept]
        chosen = split_indices(len(names), self.held_out, self.split_seed, split)
        return EncodedImages(self, [names[i] for i in chosen.tolist()], labels[chosen])

    def _listed(self) -> tuple[list[str], Tensor]:
        """Names and class labels of all images."""
        names = self.names()
        if not names:
            raise self.missing("holds no images")
        if self.count not in (None, len(names)):
            raise self.missing(f"holds {len(names)} images, not {self.count}", f"; if these are all, set data.count={len(names)}")
        return names, self._labels(names)

    def location(self, name: str) -> str:
        """Location of an image, for messages."""
        return str(self.root / name)

    def missing(self, found: str, mend: str = "") -> DataError:
        """The error for images that are not at `path`.

        Args:
            found: what is there instead.
            mend: another mend than to put the images there, after a semicolon.
        """
        number = "" if self.count is None else f"{self.count:,} "
        layout = self._layout()
        size = f"{self.image_size}x{self.image_size}"
        lines = [
            f"data.path: {self.root} {found}",
            f"expected in this {self.container}: {number}PNG, JPEG or WebP images{layout}, of {size} pixels or larger; "
            f"larger ones are cropped to their middle square and reduced to {size} as they are read",
            *([f"get {self.source}"] if self.source else []),
            f"put the images there, or name another {self.container} with data.path={self.container.upper()}{mend}",
        ]
        return DataError("\n".join(lines))

    def _layout(self) -> str:
        if self.classes is None:
            return ""
        return f", in one sub-folder for each {'class' if self.classes == 'auto' else f'of {self.classes} classes'}"

    def decode(self, name: str, crop: Sequence[float] | None = None) -> Tensor:
        """Reads and decodes one image. Args: crop: see `etsdm.data.augmentation.Draws`. Returns: uint8, `shape`. Raises: DataError."""
        return decode_resized(
            self.read(name),
            self.location(name),
            image_size=self.image_size,
            channels=self.channels,
            filter=self.filter,
            resize=self.resize,
            background=self.background,
            draft=self.draft,
            crop=crop,
        )

    def decoding(self) -> dict[str, Any]:
        """The fields that pixels depend on, besides the images."""
        return self.model_dump(mode="json", include={"image_size", "channels", "resize", "filter", "draft", "background"})

    def _refusal(self, name: str) -> str | None:
        """The message of an image whose header shows that it cannot be used."""
        try:
            with self.stream(name) as opened:
                check_header(opened, self.location(name), image_size=self.image_size, resize=self.resize)
        except DataError as error:
            return str(error)
        return None

    def _fault(self, name: str) -> str | None:
        """The message of an image that cannot be decoded."""
        try:
            self.decode(name)
        except DataError as error:
            return str(error)
        return None

    @property
    def _decoding_digest(self) -> str:
        return digest_of([self.files().content, self.decoding()])

    def _find_unusable(self) -> Iterator[tuple[int, int]]:
        """Decodes all images, unless it was done before, and keeps the list of those that cannot be used. Yields: as `check_files`."""
        digest = self._decoding_digest
        if unusable.recall(digest) is not None:
            return
        names, found = self.names(), dict[str, str]()
        for start in range(0, len(names), HEADERS_AT_A_TIME):
            block = names[start : start + HEADERS_AT_A_TIME]
            found |= {name: fault for name, fault in zip(block, _map_in_threads(self._fault, block), strict=True) if fault}
            yield start + len(block), len(names)
        unusable.keep(digest, found)

    def _labels(self, names: Sequence[str]) -> Tensor:
        """Class label of each image, int64, (N,)."""
        if self.classes is None:
            return torch.zeros(len(names), dtype=torch.long)
        for name in names:
            if "/" not in name:
                place = self.location(name)
                raise DataError(f"{place}: is in no class; move it to a sub-folder, or set data.classes=null for no labels")
        folders = [name.partition("/")[0] for name in names]
        found = sorted(set(folders))
        if self.classes not in ("auto", len(found)):
            listed = ", ".join(found[:MAX_FOLDERS_LISTED]) + (", ..." if len(found) > MAX_FOLDERS_LISTED else "")
            raise DataError(
                f"data.classes: {self.classes}, but {self.root} has {len(found)} sub-folders with images ({listed}); give that number"
            )
        label = {folder: k for k, folder in enumerate(found)}
        return torch.tensor([label[folder] for folder in folders])


class EncodedImages(Images):
    """Encoded images of one split, decoded in as many threads as torch uses.

    Args:
        dataset: reads them.
        names: names in the data set, (N,).
        labels: class labels, int64, (N,).
    """

    def __init__(self, dataset: EncodedDataset, names: Sequence[str], labels: Tensor) -> None:
        self.dataset = dataset
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        pixels = torch.empty(len(chosen), *self.dataset.shape, dtype=torch.uint8)
        crops = [None] * len(chosen) if draws is None or draws.crops is None else draws.crops.tolist()
        # numpy copies channels that lie between each other twice as fast as torch.
        for row, index, crop in zip(pixels.numpy(), chosen.tolist(), crops, strict=True):
            row[:] = self.dataset.decode(self.names[index], crop).numpy()
        return (pixels if draws is None else draws.flipped(pixels)), self.labels[chosen]

    def batch(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> LoadedImages:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        if torch.get_num_threads() == 1 or len(chosen) <= CHUNK:
            return self.loaded(*self.read(chosen, draws))
        rows = [slice(start, start + CHUNK) for start in range(0, len(chosen), CHUNK)]
        parts = _map_in_threads(lambda each: self.read(chosen[each], None if draws is None else draws.rows(each)), rows)
        stored, labels = zip(*parts, strict=True)
        return self.loaded(torch.cat(stored), torch.cat(labels))

    def class_labels(self) -> Tensor:
        return self.labels

    def digest(self) -> str:
        """sha256 of shape and decoding, and of names, labels and contents of the images; the first call reads all of them."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        d = self.dataset
        others = "" if d.resize == "center-crop" else d.resize, "draft" if d.draft else ""
        digest = hashlib.sha256(f"{d.shape}{d.filter}{d.background or ''}{''.join(others)}".encode())
        for name, label, content in zip(self.names, self.labels.tolist(), _map_in_threads(self._sha256, self.names), strict=True):
            digest.update(os.fsencode(f"\n{content} {label} {name}"))
        return digest.hexdigest()

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(self.dataset.read(name)).hexdigest()


def _map_in_threads(function: Callable[[S], T], names: Iterable[S]) -> Iterator[T]:
    """Results in the order of the names; without a pool where torch has one thread, as in the workers of a DataLoader."""
    threads = torch.get_num_threads()
    return map(function, names) if threads == 1 else _pool(os.getpid(), threads).map(function, names)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    # One for each process: a forked one inherits the pool but not its threads, and would wait for them forever.
    return ThreadPoolExecutor(threads)
