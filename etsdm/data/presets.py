"""Published image sets as presets of `image-folder`.

The paper trains on FFHQ, CelebA-HQ, AFHQ-Cat, AFHQ-Wild and two categories of LSUN, at 256x256. LSUN is published as a database and has
no preset: its images, written to files by its own tool, are an `image-folder` like any other.

The number of held-out images is this library's choice, enough for metrics on unseen images; 0 trains on all.
"""

from __future__ import annotations

from etsdm.data.sources.folder import ImageFolder
from etsdm.data.sources.lmdb import ImageLmdb
from etsdm.data.sources.mixture import Mixture
from etsdm.registry import datasets

__all__: list[str] = []

datasets.preset(
    "ffhq",
    ImageFolder,
    "Flickr-Faces-HQ (Karras et al. 2019), 70,000 faces, at 256x256.",
    path="data/ffhq",
    image_size=256,
    count=70_000,
    held_out=1000,
    source="FFHQ's folder images1024x1024, 70,000 PNG files, 89.1 GB: see https://github.com/NVlabs/ffhq-dataset",
)
datasets.preset(
    "celebahq",
    ImageFolder,
    "CelebA-HQ (Karras et al. 2018), 30,000 faces, at 256x256.",
    path="data/celebahq",
    image_size=256,
    count=30_000,
    held_out=1000,
    source="CelebA-HQ, 30,000 files, for example CelebAMask-HQ's folder CelebA-HQ-img: see https://github.com/switchablenorms/CelebAMask-HQ",
)
datasets.preset(
    "afhq-cat",
    ImageFolder,
    "The cats of Animal Faces-HQ (Choi et al. 2020), 5,153 training images, at 256x256.",
    path="data/afhq/train/cat",
    image_size=256,
    count=5153,
    held_out=100,
    source="AFHQ's folder train/cat, 5,153 files, of its first version: see https://github.com/clovaai/stargan-v2",
)
datasets.preset(
    "afhq-wild",
    ImageFolder,
    "The wild animals of Animal Faces-HQ (Choi et al. 2020), 4,738 training images, at 256x256.",
    path="data/afhq/train/wild",
    image_size=256,
    count=4738,
    held_out=100,
    source="AFHQ's folder train/wild, 4,738 files, of its first version: see https://github.com/clovaai/stargan-v2",
)
datasets.preset(
    "lsun-church",
    ImageLmdb,
    "LSUN church_outdoor (Yu et al. 2015), 126,227 training images, at 256x256, from its database.",
    path="data/church_outdoor_train_lmdb",
    image_size=256,
    count=126_227,
    held_out=1000,
    source="LSUN's church_outdoor_train_lmdb.zip, 126,227 images, and unzip it: see https://github.com/fyu/lsun",
)
datasets.preset(
    "lsun-cat",
    ImageLmdb,
    "LSUN cat (Yu et al. 2015), 1,657,266 images, at 256x256, from its database.",
    path="data/cat",
    image_size=256,
    count=1_657_266,
    held_out=1000,
    source="LSUN's cat.zip of its objects, 1,657,266 images, 42 GB, and unzip it: see https://github.com/fyu/lsun",
)
datasets.preset(
    "mixture-m1",
    Mixture,
    "Three Gaussians on a line, mixture m1 of `etsdm.theory`.",
    means=((-1.5,), (0.2,), (1.4,)),
    stds=(0.3, 0.5, 0.4),
    weights=(0.3, 0.5, 0.2),
)
datasets.preset(
    "mixture-m2",
    Mixture,
    "Three Gaussians in the plane, mixture m2 of `etsdm.theory`.",
    means=((-1.5, 0.5), (0.2, -1.0), (1.4, 0.8)),
    stds=(0.3, 0.5, 0.4),
    weights=(0.3, 0.5, 0.2),
)
