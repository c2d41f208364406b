"""Published image sets as presets of `image-folder` and `lmdb`, and the mixtures of the theory.

The paper trains on FFHQ, CelebA-HQ, AFHQ-Cat, AFHQ-Wild and two categories of LSUN, at 256x256. A folder may hold the images of the
release, which are cropped and reduced as they are read, or those of `etsdm data prepare`, which have the same pixels. LSUN is published
as databases, which are read as they are.

The number of held-out images is this library's choice, enough for metrics on unseen images; 0 trains on all.
"""

from __future__ import annotations

from typing import Any

from etsdm.data.releases import RELEASES, ReleaseName
from etsdm.data.sources.folder import ImageFolder
from etsdm.data.sources.lmdb import ImageLmdb
from etsdm.data.sources.mixture import Mixture
from etsdm.registry import datasets

__all__: list[str] = []


def _preset(name: str, release: ReleaseName, path: str, held_out: int, description: str) -> None:
    known = RELEASES[release]
    fields: dict[str, Any] = {"path": path, "image_size": known.size, "count": known.images, "held_out": held_out, "source": known.download}
    if known.filter != "lanczos":
        fields["filter"] = known.filter
    if known.is_database:
        datasets.preset(name, ImageLmdb, description, **fields)
    else:
        datasets.preset(name, ImageFolder, description, **fields, release=release)


_preset("ffhq", "ffhq", "data/ffhq", 1000, "Flickr-Faces-HQ (Karras et al. 2019), 70,000 faces, at 256x256.")
_preset("celebahq", "celeba-hq", "data/celebahq", 1000, "CelebA-HQ (Karras et al. 2018), 30,000 faces, at 256x256.")
_preset(
    "afhq-cat",
    "afhq-cat",
    "data/afhq/train/cat",
    100,
    "The cats of Animal Faces-HQ (Choi et al. 2020), 5,153 training images, at 256x256.",
)
_preset(
    "afhq-wild",
    "afhq-wild",
    "data/afhq/train/wild",
    100,
    "The wild animals of Animal Faces-HQ (Choi et al. 2020), 4,738 training images, at 256x256.",
)
_preset(
    "lsun-church",
    "lsun-church",
    "data/church_outdoor_train_lmdb",
    1000,
    "LSUN church_outdoor (Yu et al. 2015), 126,227 training images, at 256x256, from its database.",
)
_preset("lsun-cat", "lsun-cat", "data/cat", 1000, "LSUN cat (Yu et al. 2015), 1,657,266 images, at 256x256, from its database.")
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
