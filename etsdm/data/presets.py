"""Published image sets as presets of `image-folder`.

The paper trains on FFHQ, CelebA-HQ, AFHQ-Cat, AFHQ-Wild and two categories of LSUN, at 256x256. The folder may hold the images of the
release, which are cropped and reduced as they are read, or those of `etsdm data prepare`, which have the same pixels. LSUN is published as
databases, which are prepared, or read as they are by `lmdb`.

The number of held-out images is this library's choice, enough for metrics on unseen images; 0 trains on all.
"""

from __future__ import annotations

from etsdm.data.releases import RELEASES, ReleaseName
from etsdm.data.sources.folder import ImageFolder
from etsdm.registry import datasets

__all__: list[str] = []


def _preset(name: str, release: ReleaseName, path: str, held_out: int, description: str) -> None:
    known = RELEASES[release]
    fields = {"path": path, "image_size": known.size, "count": known.images, "held_out": held_out, "source": known.download}
    own_filter = {} if known.filter == "lanczos" else {"filter": known.filter}
    datasets.preset(name, ImageFolder, description, **fields, **own_filter, release=release)


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
_preset("lsun-church", "lsun-church", "data/lsun-church", 1000, "LSUN's outdoor churches (Yu et al. 2015), 126,227 images, at 256x256.")
_preset("lsun-cat", "lsun-cat", "data/lsun-cat", 1000, "LSUN's cats (Yu et al. 2015), 1,657,266 images, at 256x256.")
