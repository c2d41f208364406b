"""Inspection of image sets: formats, sizes, modes and classes of all images, those that are damaged, and a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps

from etsdm.data.dataset import Dataset
from etsdm.data.decode import PILLOW_FORMATS
from etsdm.data.encoded import EncodedDataset
from etsdm.data.encoded_images import map_in_threads
from etsdm.data.images import Images, to_signal
from etsdm.data.preparation.originals import Classes, EncodedOriginals
from etsdm.errors import DataError, printable
from etsdm.storage.images import to_pil, to_uint8

__all__ = ["Inspection", "contact_sheet", "inspect_images"]

AT_A_TIME = 256
TILE, GAP, COLUMNS = 96, 4, 8  # of a contact sheet, in pixels but for the columns
GROUND = (128, 128, 128)
ORIENTATION, UPRIGHT = 0x0112, 1  # EXIF tag and its usual value

Progress = Callable[[int, int], None]


class Inspection(NamedTuple):
    """Findings on all images of a data set, those of its test split included.

    Fields: images, their number; formats, sizes (`WIDTHxHEIGHT`), modes (Pillow's) and channels, with the number of images of each;
    classes, the same by name or number of a class, empty without labels; marks, the number of transparent, rotated (by EXIF) and animated
    images; damaged, messages by name, of images that cannot be used.
    """

    images: int
    formats: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    channels: dict[str, int]
    classes: dict[str, int]
    marks: dict[str, int]
    damaged: dict[str, str]

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return self._asdict()


class _Header(NamedTuple):
    """Format, size and marks in the header of an image."""

    format: str
    size: str
    mode: str
    channels: str
    marks: tuple[str, ...]


def inspect_images(dataset: Dataset, progress: Progress = lambda done, total: None) -> Inspection:
    """Reads and decodes all images of a data set, as a training would.

    Args:
        dataset: of a recipe, or `dataset_at` a place.
        progress: called with the number of images that are done, and of all.

    Raises:
        DataError: the images are missing. Damaged ones are in the result.
    """
    if isinstance(dataset, EncodedDataset):
        return _of_encoded(EncodedOriginals(dataset), progress)
    return _of_stored(_splits(dataset), labelled=dataset.num_classes > 1, progress=progress)


def contact_sheet(dataset: Dataset, *, images: int = 64) -> Image.Image:
    """A sheet of images at equal distances in their order, whole and upright; those that cannot be used are left out.

    Args:
        dataset: as for `inspect_images`.
        images: their number, at most.

    Raises:
        DataError: none can be used.
    """
    if isinstance(dataset, EncodedDataset):
        originals = EncodedOriginals(dataset)
        chosen = _spread(len(originals), images)
        pictures = list(filter(None, map_in_threads(lambda k: _picture(originals, k), chosen)))
    else:
        pictures = [to_pil(to_uint8(one)) for one in _pixels(_splits(dataset), images)]
    if not pictures:
        raise DataError("data: none of the images can be used, so that there is no contact sheet")
    rows = -(-len(pictures) // COLUMNS)
    columns = min(len(pictures), COLUMNS)
    sheet = Image.new("RGB", (GAP + columns * (TILE + GAP), GAP + rows * (TILE + GAP)), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(_tile(picture), (GAP + k % COLUMNS * (TILE + GAP), GAP + k // COLUMNS * (TILE + GAP)))
    return sheet


def _splits(dataset: Dataset) -> list[Images]:
    return [dataset.open("train"), *([dataset.open("test")] if dataset.holds_out else [])]


def _spread(n: int, wanted: int) -> list[int]:
    """Indices at equal distances, all where there are no more than are wanted."""
    return [k * n // min(n, wanted) for k in range(min(n, wanted))]


def _pixels(splits: list[Images], wanted: int) -> Iterator[torch.Tensor]:
    """Images of all splits at equal distances, (C, H, W), in [-1, 1]."""
    ends = [len(images) for images in splits]
    for k in _spread(sum(ends), wanted):
        index = k
        for images in splits:
            if index < len(images):
                yield to_signal(images.read([index])[0][0])
                break
            index -= len(images)


def _of_encoded(originals: EncodedOriginals, progress: Progress) -> Inspection:
    headers: list[_Header] = []
    damaged: dict[str, str] = {}

    def look(k: int) -> tuple[_Header | None, str | None]:
        try:
            content = originals.content(k)
        except DataError as error:
            return None, str(error)
        header = _header(content)
        try:
            originals.pixels(k, content)
        except DataError as error:
            return header, str(error)
        return header, None

    for start in range(0, len(originals), AT_A_TIME):
        block = range(start, min(start + AT_A_TIME, len(originals)))
        for k, (header, fault) in zip(block, map_in_threads(look, block), strict=True):
            headers += [header] if header else []
            damaged |= {printable(originals.names[k]): fault} if fault else {}
            progress(k + 1, len(originals))
    columns: list[Any] = list(zip(*headers, strict=True)) or [()] * len(_Header._fields)
    formats, sizes, modes, channels = (_counted(column) for column in columns[:4])
    marks = _counted(mark for each in columns[4] for mark in each)
    return Inspection(len(originals), formats, sizes, modes, channels, _class_counts(originals.classes), marks, damaged)


def _of_stored(splits: list[Images], *, labelled: bool, progress: Progress) -> Inspection:
    n = sum(map(len, splits))
    sizes, modes, channels = Counter[str](), Counter[str](), Counter[str]()
    for images in splits:
        stored = images.read([0])[0]
        sizes[f"{stored.shape[-1]}x{stored.shape[-2]}"] += len(images)
        modes[str(stored.dtype).removeprefix("torch.")] += len(images)
        channels[str(stored.shape[1])] += len(images)
    progress(n, n)
    labels = Classes([label for images in splits for label in images.class_labels().tolist()]) if labelled else None
    return Inspection(n, {"arrays": n}, dict(sizes), dict(modes), dict(channels), _class_counts(labels), {}, {})


def _counted(values: Iterator[str]) -> dict[str, int]:
    """Values and their numbers, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _class_counts(classes: Classes | None) -> dict[str, int]:
    if classes is None:
        return {}
    counts = Counter(classes.numbers)
    names = classes.names or tuple(str(k) for k in range(max(counts, default=-1) + 1))
    return {printable(name): counts[k] for k, name in enumerate(names)}


def _header(content: bytes) -> _Header | None:
    """Reads the header of an image. Returns: None where Pillow reads none."""
    try:
        with Image.open(BytesIO(content), formats=PILLOW_FORMATS) as opened:
            # Pillow decodes a PNG in search of EXIF, unless it has found it.
            has_exif = opened.format != "PNG" or "exif" in opened.info
            marks = {
                "transparent": opened.has_transparency_data,
                "rotated": has_exif and opened.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT,
                "animated": getattr(opened, "n_frames", 1) > 1,
            }
            size, bands = "x".join(map(str, opened.size)), len(opened.getbands())
            return _Header(str(opened.format), size, opened.mode, str(bands), tuple(mark for mark, there in marks.items() if there))
    except Exception:  # each of Pillow's decoders fails in its own ways; the message comes from the decoding
        return None


def _picture(originals: EncodedOriginals, k: int) -> Image.Image | None:
    """An image for the sheet, None for one that cannot be used."""
    try:
        content = originals.content(k)
        originals.pixels(k, content)
        with Image.open(BytesIO(content), formats=PILLOW_FORMATS) as opened:
            opened.draft("RGB", (2 * TILE, 2 * TILE))
            upright = ImageOps.exif_transpose(opened)
            upright.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
            return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except Exception:  # as for the header
        return None


def _tile(picture: Image.Image) -> Image.Image:
    """The whole image in a square; small ones are enlarged by a whole factor."""
    factor = max(1, TILE // max(picture.size))
    if max(picture.size) > TILE:
        picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    elif factor > 1:
        picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    tile = Image.new("RGB", (TILE, TILE), GROUND)
    place = ((TILE - picture.width) // 2, (TILE - picture.height) // 2)
    tile.paste(picture, place, picture if picture.mode == "RGBA" else None)
    return tile
