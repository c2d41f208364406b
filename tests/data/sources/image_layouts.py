"""The same pictures in every layout that a source reads, and the parts that read them."""

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from PIL import Image

from etsdm.data import Dataset
from etsdm.registry import datasets

N, SIZE, TEST = 30, 32, 5
LEVELS = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = np.arange(N) // 10
NAMES = [f"c{label}/{k:02d}.png" for k, label in enumerate(LABELS)]


def png(pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


FILES = dict(zip(NAMES, map(png, LEVELS), strict=True))
SHUFFLED = [NAMES[k] for k in np.random.default_rng(1).permutation(N)]


def folder(root: Path, files=FILES) -> Path:
    for name, content in files.items():
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / name).write_bytes(content)
    return root / "images"


def zip_file(root: Path, files=None, method=ZIP_DEFLATED) -> Path:
    with ZipFile(root / "images.zip", "w", method) as archive:
        for name, content in (files or {name: FILES[name] for name in SHUFFLED}).items():
            archive.writestr(name, content)
    return root / "images.zip"


def edm_zip(root: Path) -> Path:
    renamed = {f"{k // 7:05d}/img{k:08d}.png": content for k, content in enumerate(FILES.values())}
    labels = json.dumps({"labels": [[name, int(label)] for name, label in zip(renamed, LABELS, strict=True)]})
    return zip_file(root, {**renamed, "dataset.json": labels.encode()}, method=0)


def lmdb_folder(root: Path, files=FILES) -> Path:
    import lmdb

    environment = lmdb.open(str(root / "images_lmdb"), map_size=2**24)
    with environment.begin(write=True) as transaction:
        for name, content in files.items():
            transaction.put(name.encode(), content)
    environment.close()
    return root / "images_lmdb"


def tar(path: Path, files) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def with_labels(names, extension="cls"):
    found = {}
    for name in names:
        label = int(LABELS[NAMES.index(name)])
        found[name] = FILES[name]
        found[name.replace("png", extension)] = str(label).encode() if extension == "cls" else json.dumps({"label": label}).encode()
    return found


def shards(root: Path) -> Path:
    tar(root / "part-0.tar", with_labels(SHUFFLED[:13]))
    tar(root / "part-1.tar", with_labels(SHUFFLED[13:]))
    return root / "part-*.tar"


def npz(root: Path, save=np.savez) -> Path:
    save(root / "images.npz", LEVELS, LABELS)
    return root / "images.npz"


def rows_on_disk(root: Path) -> Path:
    import datasets as library

    features = library.Features({"text": library.Value("string"), "pixels": library.Image(), "kind": library.ClassLabel(names=list("abc"))})
    rows = {"text": NAMES, "pixels": [{"bytes": content, "path": None} for content in FILES.values()], "kind": LABELS.tolist()}
    library.Dataset.from_dict(rows, features).save_to_disk(str(root / "rows"))
    return root / "rows"


def parquet(root: Path) -> Path:
    import datasets as library

    (root / "parquet").mkdir()
    library.load_from_disk(str(rows_on_disk(root))).to_parquet(str(root / "parquet" / "train.parquet"))
    return root / "parquet"


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its text, as in the published files."""

    def save_bytes(self, content):
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(content)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_bytes}


def python2_pickle(value) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def batch(levels, labels) -> bytes:
    rows = np.ascontiguousarray(levels.transpose(0, 3, 1, 2)).reshape(len(levels), -1)
    return python2_pickle({b"data": rows, b"labels": [int(label) for label in labels], b"batch_label": b"x"})


def batches() -> dict[str, bytes]:
    found = {f"data_batch_{k + 1}": batch(LEVELS[5 * k : 5 * k + 5], LABELS[5 * k : 5 * k + 5]) for k in range(5)}
    return {**found, "test_batch": batch(LEVELS[25:], LABELS[25:])}


def cifar_folder(root: Path) -> Path:
    return folder(root, {f"cifar-10-batches-py/{name}": content for name, content in batches().items()})


def cifar_archive(root: Path, files=None) -> Path:
    plain = tar(root / "cifar.tar", files or {f"cifar-10-batches-py/{name}": content for name, content in batches().items()})
    (root / "cifar.tar.gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
    plain.unlink()
    return root / "cifar.tar.gz"


@dataclass(frozen=True)
class Layout:
    """One layout. Attributes: type of its part; write, makes it in a folder and gives its path; fields of the part."""

    type: str
    write: Callable[[Path], Path]
    fields: dict[str, Any] = field(default_factory=lambda: {"image_size": SIZE, "held_out": TEST, "classes": 3})

    def part(self, path: Path, **fields: Any) -> Dataset:
        return datasets.create(self.type, path=str(path), **{**self.fields, **fields})


FIXED = {"verify": False}
LAYOUTS = {
    "image-folder": Layout("image-folder", folder),
    "zip": Layout("zip", zip_file),
    "zip of EDM": Layout("zip", edm_zip),
    "lmdb": Layout("lmdb", lmdb_folder),
    "npz": Layout("npz", npz),
    "npz compressed": Layout("npz", lambda root: npz(root, np.savez_compressed)),
    "webdataset": Layout("webdataset", shards),
    "huggingface saved": Layout("huggingface", rows_on_disk),
    "huggingface parquet": Layout("huggingface", parquet),
    "cifar10 folder": Layout("cifar10", cifar_folder, FIXED),
    "cifar10 archive": Layout("cifar10", cifar_archive, FIXED),
}
