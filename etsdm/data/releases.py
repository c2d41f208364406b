"""Published image sets: the layout of each release, and the crop and filter that its users agree on.

The middle square of the shorter side is taken and reduced by one filter, as by the data set tools of StyleGAN2-ADA and EDM, whose filter
is Lanczos. LSUN's filter is that of guided-diffusion's script, box; its images have a shorter side of 256 pixels, of which at 256x256
no filter changes one.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, NamedTuple

from etsdm.data.decode import Filter
from etsdm.errors import PartError
from etsdm.registry import suggestion

__all__ = ["RELEASES", "Release", "ReleaseName", "prepare_command", "release_of"]

ReleaseName = Literal["ffhq", "celeba-hq", "afhq-cat", "afhq-wild", "lsun-church", "lsun-cat", "cifar10", "folder"]


class Release(NamedTuple):
    """A published set.

    Fields:
        title: the set, its authors and its year.
        layout: place of the images in what is downloaded, a path.
        download: name, number and size of the files, and where to get them.
        images: their number; None for any.
        filter: Pillow's resampling filter.
        size: side of the prepared images in pixels.
        is_database: whether it is an LMDB database.
        labelled: whether sub-folders, or a `dataset.json`, are class labels.
    """

    title: str
    layout: str
    download: str
    images: int | None = None
    filter: Filter = "lanczos"
    size: int = 256
    is_database: bool = False
    labelled: bool = False


FFHQ_SITE = "https://github.com/NVlabs/ffhq-dataset"
CELEBA_SITE = "https://github.com/switchablenorms/CelebAMask-HQ"
AFHQ_SITE = "https://github.com/clovaai/stargan-v2"
LSUN_SITE = "https://github.com/fyu/lsun"

RELEASES: dict[ReleaseName, Release] = {
    "ffhq": Release(
        "Flickr-Faces-HQ (Karras et al. 2019)",
        "images1024x1024",
        f"FFHQ's folder images1024x1024, 70,000 PNG files, 89.1 GB: see {FFHQ_SITE}",
        70_000,
    ),
    "celeba-hq": Release(
        "CelebA-HQ (Karras et al. 2018)",
        "CelebAMask-HQ/CelebA-HQ-img",
        f"CelebA-HQ, 30,000 files, for example CelebAMask-HQ's folder CelebA-HQ-img: see {CELEBA_SITE}",
        30_000,
    ),
    "afhq-cat": Release(
        "the cats of Animal Faces-HQ, first version (Choi et al. 2020)",
        "afhq/train/cat",
        f"AFHQ's folder train/cat, 5,153 files, of its first version: see {AFHQ_SITE}",
        5153,
    ),
    "afhq-wild": Release(
        "the wild animals of Animal Faces-HQ, first version (Choi et al. 2020)",
        "afhq/train/wild",
        f"AFHQ's folder train/wild, 4,738 files, of its first version: see {AFHQ_SITE}",
        4738,
    ),
    "lsun-church": Release(
        "LSUN's outdoor churches (Yu et al. 2015)",
        "church_outdoor_train_lmdb",
        f"LSUN's church_outdoor_train_lmdb.zip, 126,227 images, and unzip it: see {LSUN_SITE}",
        126_227,
        "box",
        is_database=True,
    ),
    "lsun-cat": Release(
        "LSUN's cats (Yu et al. 2015)",
        "cat",
        f"LSUN's cat.zip of its objects, 1,657,266 images, 42 GB, and unzip it: see {LSUN_SITE}",
        1_657_266,
        "box",
        is_database=True,
    ),
    "cifar10": Release(
        "CIFAR-10, python version (Krizhevsky 2009)",
        "cifar-10-python.tar.gz",
        "the CIFAR-10 python version, cifar-10-python.tar.gz, 163 MB: see https://www.cs.toronto.edu/~kriz/cifar.html",
        50_000,
        size=32,
        labelled=True,
    ),
    "folder": Release("images of any origin", "images", "", labelled=True),
}


def release_of(text: str) -> ReleaseName:
    """The name of a published set. Raises: PartError with field `dataset` for an unknown one."""
    for name in RELEASES:
        if name == text:
            return name
    raise PartError("dataset", f"unknown data set {text!r}; {suggestion(text, RELEASES, 'known')}")


def prepare_command(name: ReleaseName, size: int, out: str | Path) -> str:
    """The command that prepares a published set. Args: name: in `RELEASES`; size: side in pixels; out: of the result."""
    return f"etsdm data prepare {shlex.quote(RELEASES[name].layout)} --dataset {name} --size {size} --out {shlex.quote(str(out))}"
