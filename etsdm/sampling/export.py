"""What is made of a job's images when all are there: a grid, an animation, and archives that other tools read.

Images go through one by one, so memory does not grow with their number.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image

from etsdm.sampling.job import SamplingTask
from etsdm.sampling.stores import PngStore
from etsdm.storage.files import open_atomically
from etsdm.storage.images import PREVIEW_IMAGES, animation_bytes, image_grid, png_bytes

__all__ = ["write_grid", "write_npz", "write_trajectory", "write_zip"]

ANIMATED = 16  # images in the animation
FRAMES = 48  # steps that it shows at most
UNDATED = (1980, 1, 1, 0, 0, 0)  # of files in archives, so that the same images give the same archive


def write_grid(folder: PngStore, n: int) -> Path:
    """The first images side by side, with the protocol in text chunks. Returns: the picture's path."""
    pixels = torch.stack([torch.from_numpy(_pixels(folder.file(k))).permute(2, 0, 1) for k in range(min(n, PREVIEW_IMAGES))])
    return folder.put(folder.grid_file.name, png_bytes(image_grid(pixels / 127.5 - 1), folder.facts()))


def write_trajectory(folder: PngStore, drawing: SamplingTask, n: int, name: str) -> Path:
    """The clean images that are predicted at each step for the first ones, and at last the images: drawn once more for it.

    Args:
        folder: where it goes.
        drawing: what is drawn.
        n: how many images the job has.
        name: of the file, which ends in `.gif` or `.webp`.
    """
    frames = []
    for step in drawing.steps(range(min(n, ANIMATED))):
        if step.i == step.n or (step.i - 1) % max(1, -(-step.n // FRAMES)) == 0:
            frames.append(image_grid(drawing.images(step.x0), columns=4))
    frames.append(image_grid(drawing.images(step.x), columns=4))
    return folder.put(name, animation_bytes(frames, name))


def write_npz(folder: PngStore, n: int, labels: Sequence[int] | None, name: str) -> Path:
    """guided-diffusion's archive: `arr_0` uint8, (N, H, W, C), and `arr_1` the labels, (N,), where there are any."""
    height, width, channels = _pixels(folder.file(0)).shape
    with open_atomically(folder.path / name) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with _member(archive, "arr_0.npy") as member:
            _header(member, np.dtype(np.uint8), (n, height, width, channels))
            for k in range(n):
                member.write(_pixels(folder.file(k)).tobytes())
        if labels is not None:
            with _member(archive, "arr_1.npy") as member:
                _header(member, np.dtype(np.int64), (n,))
                member.write(np.asarray(labels, dtype=np.int64).tobytes())
    return folder.path / name


def write_zip(folder: PngStore, n: int, name: str) -> Path:
    """The PNG files in one uncompressed archive, as tools that measure FID take them."""
    with open_atomically(folder.path / name) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for k in range(n):
            with _member(archive, folder.file(k).name) as member:
                member.write(folder.file(k).read_bytes())
    return folder.path / name


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(name, UNDATED), "w", force_zip64=True)


def _header(member: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(member, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})


def _pixels(file: Path) -> np.ndarray:
    """(H, W, C), C = 1 or 3."""
    with Image.open(file) as picture:
        return np.atleast_3d(np.array(picture))
