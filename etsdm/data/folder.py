"""Images in a folder and its sub-folders, read when they are asked for."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from etsdm.data.base import Dataset, Files, Images, LoadedImages, Split
from etsdm.data.decoding import MODES, Filter, read_image
from etsdm.data.folder_presets import FOLDER_PRESETS
from etsdm.data.listing import EXTENSIONS, image_files, listing_digest
from etsdm.errors import DataError
from etsdm.randomness import permutation
from etsdm.registry import datasets
from etsdm.storage.files import sha256_of

__all__ = ["FolderImages", "ImageFolder"]

# With two operands: files and their place below the new folder, which keep their order. Squares become what `read_image` makes.
REDUCE = (
    "import sys; from pathlib import Path; from PIL import Image, ImageOps; a, b = map(Path, sys.argv[1:]); "
    "[((new := b / old.relative_to(a).with_suffix('.png')).parent.mkdir(parents=True, exist_ok=True), "
    "ImageOps.fit(ImageOps.exif_transpose(Image.open(old)).convert('{mode}'), ({size}, {size}), Image.Resampling.{filter}).save(new)) "
    "for old in a.rglob('*') if old.suffix.lower() in {suffixes}]"
)


@datasets.register("image-folder")
class ImageFolder(Dataset):
    """Images in a folder and its sub-folders, cropped to their middle square and reduced to one size as they are read.

    Image k is the k-th file in the order of the paths below `path`. Names that begin with a dot are passed over.

    Attributes:
        path: the folder, from where the program runs or absolute.
        image_size: side in pixels; smaller images are refused.
        channels: 3 for RGB, 1 for grey.
        classes: how many sub-folders of `path` are classes, labelled in the order of their names; None for no labels.
        filter: Pillow's filter for reducing.
        extensions: what files are images, in lower case and without a dot.
        held_out: the test split, as a share below 1 or a whole number of images; 0 trains on all.
        split_seed: which they are.
        count: how many images the folder must hold, None for any number.
        source: what the images are and where to get them, for the message that says that they are not there.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset({"path", "count", "source"})

    path: str = Field(min_length=1)
    image_size: PositiveInt
    channels: Literal[1, 3] = 3
    classes: PositiveInt | None = None
    filter: Filter = "lanczos"
    extensions: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]+$")], ...] = Field(EXTENSIONS, min_length=1)
    held_out: int | float = 0.1
    split_seed: int = 0
    count: PositiveInt | None = None
    source: str = ""

    @field_validator("held_out")
    @classmethod
    def _share_or_number(cls, value: int | float) -> int | float:
        if value < 0 or (isinstance(value, float) and value >= 1):
            raise ValueError("is no part of the images; give a share below 1, or a whole number of images, 0 for none")
        return value

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, image_size, image_size)."""
        return self.channels, self.image_size, self.image_size

    @property
    def num_classes(self) -> int:
        """`classes`, or one where there are no labels."""
        return self.classes or 1

    @property
    def holds_out(self) -> bool:
        """Whether `held_out` is above 0."""
        return self.held_out > 0

    @property
    def root(self) -> Path:
        """The folder as an absolute path."""
        return Path(self.path).expanduser().absolute()

    def check(self) -> None:
        """Lists the folder and reads no image.

        Raises:
            DataError: the folder is missing, does not hold `count` images or `classes` classes, or none is left for training.
        """
        self.open("train")

    def files(self) -> Files:
        """The images in the folder, by `listing_digest`; an empty folder is as good as none. Raises: DataError if one cannot be read."""
        names = image_files(self.root, self.extensions) if self.root.is_dir() else []
        return Files(self.path, listing_digest(self.root, names) if names else None)

    def open(self, split: Split) -> FolderImages:
        """The files of one split, of which none is read yet. Raises: DataError as `check`."""
        names = self._names()
        labels, chosen = self._labels(names), self._split(len(names), split)
        return FolderImages(self, [names[i] for i in chosen.tolist()], labels[chosen])

    def _names(self) -> list[str]:
        """Paths below the root, with `/`, in order."""
        if not self.root.is_dir():
            raise self._absent("is no folder")
        names = image_files(self.root, self.extensions)
        if not names:
            raise self._absent(f"holds no image files ({', '.join(self.extensions)})")
        if self.count not in (None, len(names)):
            raise self._absent(f"holds {len(names)} images, not {self.count}", f"; if these are all, set data.count={len(names)}")
        return names

    def _absent(self, found: str, mend: str = "") -> DataError:
        here = f"data.path: {self.root} {found}"
        if not self.source:
            return DataError(f"{here}; put the images there, or name another folder with data.path=FOLDER{mend}")
        suffixes = {f".{extension}" for extension in self.extensions}
        program = REDUCE.format(
            mode=MODES[self.channels], size=self.image_size, filter=self.filter.upper(), suffixes=repr(sorted(suffixes))
        )
        return DataError(
            f"{here}\n"
            f"get {self.source}\n"
            f"put the images there, sub-folders and all, or name another folder with data.path=FOLDER{mend}\n"
            f"larger images are reduced to {self.image_size}x{self.image_size} as they are read; to do it once, for faster reading:\n"
            f'python -c "{program}" DOWNLOADED {shlex.quote(str(self.root))}'
        )

    def _labels(self, names: list[str]) -> Tensor:
        """The class of each image, int64, (N,)."""
        if self.classes is None:
            return torch.zeros(len(names), dtype=torch.long)
        for name in names:
            if "/" not in name:
                raise DataError(f"{self.root / name}: is in no class; move it to a sub-folder, or set data.classes=null for no labels")
        folders = [name.partition("/")[0] for name in names]
        found = sorted(set(folders))
        if len(found) != self.classes:
            shown = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
            raise DataError(f"data.classes: {self.classes}, but {self.root} has {len(found)} sub-folders with images ({shown}); give that")
        number = {folder: k for k, folder in enumerate(found)}
        return torch.tensor([number[folder] for folder in folders])

    def _split(self, n: int, split: Split) -> Tensor:
        """Which of n images a split holds, in order."""
        test = self.held_out if isinstance(self.held_out, int) else round(n * self.held_out)
        if test >= n:
            raise DataError(f"data.held_out: {self.held_out} of {n} images leaves none for training; hold out fewer")
        if self.held_out and not test:
            raise DataError(f"data.held_out: {self.held_out} of {n} images is none; hold out more, or 0 for none")
        order = permutation(self.split_seed, "data/split", 0, n)
        return (order[:test] if split == "test" else order[test:]).sort().values


class FolderImages(Images):
    """Image files of one split, decoded by as many threads as torch uses.

    Args:
        spec: the data set.
        names: paths below its root, (N,).
        labels: class labels, int64, (N,).
        device: where batches come.
    """

    def __init__(self, spec: ImageFolder, names: Sequence[str], labels: Tensor, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.names = names
        self.labels = labels
        self.device = device

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Sequence[int] | Tensor) -> LoadedImages:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        read = partial(read_image, image_size=self.spec.image_size, channels=self.spec.channels, filter=self.spec.filter)
        pixels = torch.empty(len(chosen), *self.spec.shape, dtype=torch.uint8)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for row, image in zip(pixels, pool.map(read, (self._file(self.names[i]) for i in chosen.tolist())), strict=True):
                row.copy_(image)
        # Scaled on the CPU: elsewhere a division by a number may be a multiplication by its rounded inverse.
        return LoadedImages(pixels.float() / 127.5 - 1, self.labels[chosen]).to(self.device)

    def digest(self) -> str:
        """sha256 of names, labels and contents of the files, and of how pixels are made of them; the first call reads every file."""
        return self._digest

    def to(self, device: torch.device | str) -> FolderImages:
        return FolderImages(self.spec, self.names, self.labels, device)

    @cached_property
    def _digest(self) -> str:
        content = hashlib.sha256(f"{self.spec.shape}{self.spec.filter}".encode())
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            hashes = pool.map(sha256_of, map(self._file, self.names))
            for name, label, found in zip(self.names, self.labels.tolist(), hashes, strict=True):
                content.update(os.fsencode(f"\n{found} {label} {name}"))
        return content.hexdigest()

    def _file(self, name: str) -> Path:
        return self.spec.root / name


for name, (description, fields) in FOLDER_PRESETS.items():
    datasets.preset(name, ImageFolder, description, **fields)
