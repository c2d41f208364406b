"""Data sets of encoded images, PNG, JPEG or WebP: labels, split, decoding and messages, shared by folders and archives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from etsdm.data import unusable
from etsdm.data.dataset import Files
from etsdm.data.decode import Background, Filter, Resize, check_header, decode_resized
from etsdm.data.encoded_images import EncodedImages, map_in_threads
from etsdm.data.labels import Labels, folder_labels, named_labels, read_label_file, with_classes
from etsdm.data.names import PackedNames
from etsdm.data.releases import ReleaseName, prepare_command
from etsdm.data.split import Split
from etsdm.data.stored import SplitDataset
from etsdm.errors import DataError, PartError
from etsdm.registry.counts import Classes, ImageSize
from etsdm.registry.paths import FilePath
from etsdm.storage.files import digest_of, known_sha256_of

__all__ = ["EncodedDataset"]

MAX_REFUSED = 8  # images in a message
HEADERS_AT_A_TIME = 256
DECODING = ("image_size", "channels", "resize", "filter", "draft", "background")


class EncodedDataset(SplitDataset):
    """Encoded images by name, cropped to their middle square and reduced to one size as they are read.

    A source (a folder, an archive) is a subclass with `names`, `read` and `files`. Image k is the k-th of `names`.

    Attributes:
        image_size: side in pixels; smaller images are refused.
        channels: 3 for RGB, 1 for grey.
        classes: number of classes; `auto` for as many as there are, None for no labels.
        labels: CSV or JSON file of names and labels; see `etsdm.data.labels`. None for the labels of the container itself, or else those of
            its top-level sub-folders, numbered in the order of their names.
        resize: `center-crop` for the middle square of the shorter side, `lanczos` or `area` for the whole image, squeezed to a square by
            that filter, `none` for images that have the size.
        filter: Pillow's resampling filter of `center-crop`.
        draft: decodes a JPEG at a half, a quarter or an eighth, where that has twice the pixels a side: faster, and slightly other pixels.
        background: colour behind transparent pixels, `white` or `black`; None refuses images that are transparent in places.
        on_error: `stop` at the first image that cannot be used, or `skip`: decode all images once before anything is read, and do without
            those that cannot be used, which the report lists.
        release: published set that `etsdm data prepare` makes these images of, for the message when they are missing.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset({"path", "labels", "count", "source", "release"})
    container: ClassVar[str] = "archive"

    image_size: ImageSize
    channels: Literal[1, 3] = 3
    classes: Classes | Literal["auto"] | None = None
    labels: FilePath | None = None
    resize: Resize = "center-crop"
    filter: Filter = "lanczos"
    draft: bool = False
    background: Background | None = None
    on_error: Literal["stop", "skip"] = "stop"
    release: ReleaseName | None = None

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.labels is not None and self.classes is None:
            raise PartError("labels", "classes is null, so no label is read; give classes: auto, or leave labels out")
        if self.resize != "center-crop" and self.filter != type(self).model_fields["filter"].default:
            raise PartError("filter", f"is of center-crop, and resize is {self.resize!r}; leave it out")
        return self

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Lists the images in a fixed order, with `/` between folder and file. Raises: `missing` if the container is not there."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Reads one encoded image, also from several threads at once and in forked processes. Raises: DataError if it cannot."""

    def stream(self, name: str) -> IO[bytes]:
        """Opens one encoded image, of which the header alone may be read. Raises: DataError as `read`."""
        return BytesIO(self.read(name))

    def own_labels(self, names: Sequence[str]) -> Labels | None:
        """Labels that the container keeps beside the images; None for those of its sub-folders. Raises: DataError if they do not fit."""
        return None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, image_size, image_size)."""
        return self.channels, self.image_size, self.image_size

    @property
    def num_classes(self) -> int:
        """`classes`, or 1 without labels. Raises: DataError if they are to be counted and the images are missing."""
        if self.classes == "auto":
            return self._labels(self.names()).classes
        return self.classes or 1

    @property
    def crops_at_random(self) -> bool:
        """Whether a square of the image is read."""
        return self.resize == "center-crop"

    def check(self) -> None:
        """Lists the images and decodes none.

        Raises:
            DataError: they are missing, are not `count` images in `classes` classes, or none is left for training.
        """
        names, _ = self._listed()
        self._rows(len(names), "train")

    def check_files(self) -> Iterator[tuple[int, int]]:
        """Reads the headers of all images, held-out ones too, and with `skip` decodes them; see `Dataset.check_files`."""
        if self.on_error == "skip":
            yield from self._find_unusable()
            return
        names, refused = self.names(), list[str]()
        for start in range(0, len(names), HEADERS_AT_A_TIME):
            block = names[start : start + HEADERS_AT_A_TIME]
            refused += filter(None, map_in_threads(self._refusal, block))
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
        return unusable.recall(self._decoding_digest()) or {}

    def open(self, split: Split) -> EncodedImages:
        """Opens one split and decodes no image yet, or all of them once with `skip`. Raises: DataError as `check`."""
        names, labels = self._listed()
        passed_over = self.passed_over()
        if passed_over:
            kept = torch.tensor([i for i, name in enumerate(names) if name not in passed_over], dtype=torch.long)
            if not len(kept):
                first = next(iter(passed_over.values()))
                raise DataError(f"data.path: none of the {len(names)} images in {self.root} can be used, for example {first}")
            names, labels = names.take(kept), labels[kept]
        chosen = self._rows(len(names), split)
        return EncodedImages(self, names.take(chosen), labels[chosen])

    def _listed(self) -> tuple[PackedNames, Tensor]:
        """Names and class labels of all images."""
        names = PackedNames.of(self.names())
        self._check_count(len(names))
        return names, self._labels(names).numbers

    def location(self, name: str) -> str:
        """Location of an image, for messages."""
        return str(self.root / name)

    @property
    def _expected(self) -> str:
        number = "" if self.count is None else f"{self.count:,} "
        size = f"{self.image_size}x{self.image_size}"
        return (
            f"{number}PNG, JPEG or WebP images{self._layout()}, of {size} pixels or larger; "
            f"larger ones are cropped to their middle square and reduced to {size} as they are read"
        )

    @property
    def _preparation(self) -> str | None:
        return None if self.release is None else prepare_command(self.release, self.image_size, self.path)

    def _layout(self) -> str:
        """Layout of the classes in the container, for messages."""
        if self.classes is None or self.labels is not None:
            return ""
        return f", in one sub-folder for each {'class' if self.classes == 'auto' else f'of {self.classes} classes'}"

    def decode(self, name: str, crop: Sequence[float] | None = None) -> Tensor:
        """Reads and decodes one image. Args: crop: see `etsdm.data.augmentation.Draws`. Returns: uint8, `shape`. Raises: DataError."""
        return self.decode_content(self.read(name), name, crop)

    def decode_content(self, content: bytes, name: str, crop: Sequence[float] | None = None) -> Tensor:
        """Decodes what `read` gave of one image. Args, returns and raises: as `decode`."""
        return decode_resized(content, self.location(name), crop=crop, **self.decoding())

    def decoding(self) -> dict[str, Any]:
        """Settings of the decoding."""
        return {field: getattr(self, field) for field in DECODING}

    def decoding_text(self) -> str:
        """Settings of the decoding as a text, for the digest of images."""
        others = ("" if self.resize == "center-crop" else self.resize) + ("draft" if self.draft else "")
        return f"{self.shape}{self.filter}{self.background or ''}{others}"

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

    def _decoding_digest(self) -> str:
        return digest_of([self.files().content, self.decoding()])

    def _find_unusable(self) -> Iterator[tuple[int, int]]:
        """Decodes all images, unless it was done before, and keeps the list of those that cannot be used. Yields: as `check_files`."""
        digest = self._decoding_digest()
        if unusable.recall(digest) is not None:
            return
        names, found = self.names(), dict[str, str]()
        for start in range(0, len(names), HEADERS_AT_A_TIME):
            block = names[start : start + HEADERS_AT_A_TIME]
            found |= {name: fault for name, fault in zip(block, map_in_threads(self._fault, block), strict=True) if fault}
            yield start + len(block), len(names)
        unusable.keep(digest, found)

    def _labels(self, names: Sequence[str]) -> Labels:
        if self.classes is None:
            return Labels(torch.zeros(len(names), dtype=torch.long))
        if self.labels is not None:
            file = Path(self.labels).expanduser().absolute()
            found, place = named_labels(names, read_label_file(file), file, self.location), str(file)
        else:
            found, place = self.own_labels(names) or folder_labels(names, self.location), str(self.root)
        return found if self.classes == "auto" else with_classes(found, self.classes, place)

    def _files(self, content: str | None) -> Files:
        """The container's `Files`, and in their content that of the file of labels. Args: content: of the container."""
        if content is None or self.labels is None:
            return Files(self.path, content)
        file = Path(self.labels).expanduser()
        return Files(self.path, digest_of([content, known_sha256_of(file)]) if file.is_file() else None)
