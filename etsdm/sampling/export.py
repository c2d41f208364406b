"""Exports of a finished sampling job: a grid, an animation, and the archives of other tools.

Images go through one by one, so memory does not grow with their number.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from PIL import Image

from etsdm.errors import IntegrityError
from etsdm.sampling.job import SamplingTask
from etsdm.sampling.png_store import PngStore
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import open_atomically
from etsdm.storage.images import PREVIEW_IMAGES, animation_bytes, image_grid, png_bytes, read_sealed_png

__all__ = ["write_animation", "write_grid", "write_npz", "write_zip"]

ANIMATED_IMAGES = 16
MAX_FRAMES = 48  # of an animation's steps
ARCHIVE_DATE = (1980, 1, 1, 0, 0, 0)  # of an archive's members, so that the same images give the same archive


@storage_errors()
def write_grid(store: PngStore, n: int) -> Path:
    """Writes the first images side by side, with the protocol in text chunks. Returns: the picture's path."""
    pixels = torch.stack([torch.from_numpy(_pixels(store.file(k))).permute(2, 0, 1) for k in range(min(n, PREVIEW_IMAGES))])
    return store.put(store.grid_file.name, png_bytes(image_grid(pixels / 127.5 - 1), store.text()))


@storage_errors()
def write_animation(store: PngStore, task: SamplingTask, n: int, name: str) -> Path:
    """Writes the x0 predicted at each step for the first images, then the images; generates these once more.

    Args:
        store: receives the file.
        task: of the job.
        n: number of images of the job.
        name: of the file, ending in `.gif` or `.webp`.
    """
    frames = []
    for step in task.steps(range(min(n, ANIMATED_IMAGES))):
        if step.i == step.n or (step.i - 1) % max(1, -(-step.n // MAX_FRAMES)) == 0:
            frames.append(image_grid(task.decode(step.x0), columns=4))
    frames.append(image_grid(task.decode(step.x), columns=4))
    return store.put(name, animation_bytes(frames, name))


@storage_errors()
def write_npz(store: PngStore, n: int, name: str, label: Callable[[int], int] | None = None) -> Path:
    """Writes guided-diffusion's archive: `arr_0` uint8, (N, H, W, C), and `arr_1` int64, (N,), the labels where there are any.

    Args:
        store: holds the images, and receives the file.
        n: number of images.
        name: of the file, ending in `.npz`.
        label: class label of image k; None without classes.
    """
    members = {"arr_0.npy": _npy(np.uint8, (n, *_pixels(store.file(0)).shape), (_pixels(store.file(k)) for k in range(n)))}
    if label is not None:
        members["arr_1.npy"] = _npy(np.int64, (n,), (np.array(label(k), np.int64) for k in range(n)))
    return _archive(store.path / name, members.items())


@storage_errors()
def write_zip(store: PngStore, n: int, name: str) -> Path:
    """Writes the PNG files into one uncompressed archive, the input of tools that measure FID."""
    return _archive(store.path / name, ((store.file(k).name, [_content(store.file(k))]) for k in range(n)))


def _npy(dtype: type[np.generic], shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> Iterator[bytes]:
    """The content of a NumPy file, its rows one by one. Not a mapped file, which ends the process where the disk is full."""
    head = BytesIO()
    write_array_header_1_0(head, {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape})
    yield head.getvalue()
    yield from (row.tobytes() for row in rows)


def _archive(path: Path, members: Iterable[tuple[str, Iterable[bytes]]]) -> Path:
    with open_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, pieces in members:
            # Not `archive.write`, which takes the date from the file.
            with archive.open(zipfile.ZipInfo(name, ARCHIVE_DATE), "w", force_zip64=True) as member:
                for piece in pieces:
                    member.write(piece)
    return path


def _pixels(file: Path) -> np.ndarray:
    """(H, W, C), C = 1 or 3."""
    with Image.open(BytesIO(_content(file)), formats=("PNG",)) as picture:
        return np.atleast_3d(np.array(picture))


def _content(file: Path) -> bytes:
    try:
        return read_sealed_png(file)[1]
    except IntegrityError as error:
        raise IntegrityError(f"{error}; generate the images again") from None
