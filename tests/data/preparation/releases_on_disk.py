"""Small trees in the layout of each release, and the prepared sets as other programs would make them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

N = 6


def picture(k, width, height) -> Image.Image:
    return Image.fromarray(np.random.default_rng(k).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(k, width, height, kind) -> bytes:
    stream = io.BytesIO()
    picture(k, width, height).save(stream, kind)
    return stream.getvalue()


def write(root: Path, files) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def ffhq(root: Path) -> Path:
    """Sub-folders of 1,000 images, numbered by their first one."""
    return write(root / "ffhq-dataset", {f"images1024x1024/{1000 * (k // 4):05d}/{k:05d}.png": encoded(k, 64, 64, "PNG") for k in range(N)})


def celeba_hq(root: Path) -> Path:
    others = {"CelebAMask-HQ-mask-anno/0/00000_hair.png": encoded(9, 32, 32, "PNG"), "README.txt": b"text"}
    images = {f"CelebAMask-HQ/CelebA-HQ-img/{k}.jpg": encoded(k, 64, 64, "JPEG") for k in range(N)}
    return write(root, images | {f"CelebAMask-HQ/{name}": content for name, content in others.items()})


def afhq(root: Path) -> Path:
    files = {}
    for kind, animals in {"train": ("cat", "dog", "wild"), "val": ("cat",)}.items():
        for at, animal in enumerate(animals):
            files |= {f"afhq/{kind}/{animal}/flickr_{animal}_{k:06d}.jpg": encoded(100 * at + k, 64, 64, "JPEG") for k in range(N)}
    return write(root, files)


def lsun(root: Path, name: str) -> Path:
    import lmdb

    environment = lmdb.open(str(root / name), map_size=2**24)
    with environment.begin(write=True) as transaction:
        for k in range(N):
            transaction.put(f"{k:040x}".encode(), encoded(k, 32 + 3 * k, 32, "WEBP"))
    environment.close()
    return root


def animals(root: Path) -> Path:
    """Class folders of any origin."""
    return write(root / "animals", {f"{kind}/{k}.png": encoded(k, 40, 32, "PNG") for kind in ("cat", "dog") for k in range(3)})


RELEASES = {
    "ffhq": (ffhq, "ffhq-dataset/images1024x1024", "image-folder"),
    "celeba-hq": (celeba_hq, "CelebAMask-HQ/CelebA-HQ-img", "image-folder"),
    "afhq-cat": (afhq, "afhq/train/cat", "image-folder"),
    "afhq-wild": (afhq, "afhq/train/wild", "image-folder"),
    "lsun-church": (lambda root: lsun(root, "church_outdoor_train_lmdb"), "church_outdoor_train_lmdb", "lmdb"),
    "lsun-cat": (lambda root: lsun(root, "cat"), "cat", "lmdb"),
    "folder": (animals, "animals", "image-folder"),
}


def center_crop(pixels, size) -> bytes:
    """`center_crop` of EDM's dataset_tool.py and the PNG that it writes."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    image = Image.fromarray(pixels[top : top + side, left : left + side]).resize((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, format="png", compress_level=0, optimize=False)
    return stream.getvalue()


def lsun_crop(picture, size):
    """guided-diffusion's lsun_bedroom.py: the shorter side to the size by box, then the middle."""
    scale = size / min(picture.size)
    pixels = np.array(picture.resize((round(scale * picture.width), round(scale * picture.height)), Image.Resampling.BOX))
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]
