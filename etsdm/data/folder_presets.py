"""Published image sets of the `image-folder` kind, as the fields that find and describe them.

The paper trains on FFHQ, CelebA-HQ, AFHQ-Cat, AFHQ-Wild and two categories of LSUN, at 256x256. LSUN comes as a database, not as
files, and stands under no name here: its images, written to files by its own tool, are an `image-folder` like any other.

How many images are held out is this library's choice, enough for the metrics that compare with unseen images; 0 trains on all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["FOLDER_PRESETS", "FolderPreset"]


class FolderPreset(NamedTuple):
    """What a published set is, in a line, and the fields of its `ImageFolder`."""

    description: str
    fields: dict[str, Any]


FOLDER_PRESETS = {
    "ffhq": FolderPreset(
        "Flickr-Faces-HQ (Karras et al. 2019), 70,000 faces, at 256x256.",
        {
            "path": "data/ffhq",
            "image_size": 256,
            "count": 70_000,
            "held_out": 1000,
            "source": "FFHQ's folder images1024x1024, 70,000 PNG files, 89.1 GB: see https://github.com/NVlabs/ffhq-dataset",
        },
    ),
    "celebahq": FolderPreset(
        "CelebA-HQ (Karras et al. 2018), 30,000 faces, at 256x256.",
        {
            "path": "data/celebahq",
            "image_size": 256,
            "count": 30_000,
            "held_out": 1000,
            "source": "CelebA-HQ, 30,000 files, for example CelebAMask-HQ's folder CelebA-HQ-img: "
            "see https://github.com/switchablenorms/CelebAMask-HQ",
        },
    ),
    "afhq-cat": FolderPreset(
        "The cats of Animal Faces-HQ (Choi et al. 2020), 5,153 training images, at 256x256.",
        {
            "path": "data/afhq/train/cat",
            "image_size": 256,
            "count": 5153,
            "held_out": 100,
            "source": "AFHQ's folder train/cat, 5,153 files, of its first version: see https://github.com/clovaai/stargan-v2",
        },
    ),
    "afhq-wild": FolderPreset(
        "The wild animals of Animal Faces-HQ (Choi et al. 2020), 4,738 training images, at 256x256.",
        {
            "path": "data/afhq/train/wild",
            "image_size": 256,
            "count": 4738,
            "held_out": 100,
            "source": "AFHQ's folder train/wild, 4,738 files, of its first version: see https://github.com/clovaai/stargan-v2",
        },
    ),
}
