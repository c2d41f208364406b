"""A source of encoded images is one class: a zip archive, defined here, trains like the folder that it was made of."""

import hashlib
import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from etsdm.data import EncodedDataset, Files, ImageFolder
from etsdm.errors import DataError
from etsdm.recipe import load_arms
from etsdm.registry import datasets
from etsdm.storage.files import sha256_of
from etsdm.training import Trainer

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
COUNT = 24


class ImageZip(EncodedDataset):
    """Images in a zip archive."""

    def names(self):
        if not self.root.is_file():
            raise self.missing("is no archive")
        with ZipFile(self.root) as archive:
            return sorted(archive.namelist())

    def read(self, name):
        with ZipFile(self.root) as archive:
            return archive.read(name)

    def files(self):
        return Files(self.path, sha256_of(self.root) if self.root.is_file() else None)


@pytest.fixture
def registered(monkeypatch):
    """`zip-in-a-test` among the data sets, for the length of a test."""
    datasets.names()  # so that the built-in ones are there
    monkeypatch.setattr(datasets, "_entries", dict(datasets._entries))
    datasets.register("zip-in-a-test")(ImageZip)


@pytest.fixture
def places(tmp_path):
    """A folder of digits, a sub-folder for each number, and an archive of it."""
    bunch = load_digits()
    for k in range(COUNT):
        folder = tmp_path / "folder" / str(bunch.target[k])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((bunch.images[k] * 15).astype(np.uint8)).save(folder / f"{k:02d}.png")
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in (tmp_path / "folder").rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path / "folder"))
    return tmp_path / "folder", tmp_path / "images.zip"


FIELDS = {"image_size": 8, "channels": 1, "classes": 10, "held_out": 4}


def test_an_archive_has_the_images_labels_splits_and_digest_of_the_folder_it_was_made_of(places):
    folder, archive = ImageFolder(path=str(places[0]), **FIELDS), ImageZip(path=str(places[1]), **FIELDS)
    for split in ("train", "test"):
        expected, found = folder.open(split), archive.open(split)
        assert found.names == expected.names
        assert torch.equal(found.load().pixels, expected.load().pixels)
        assert torch.equal(found.labels, expected.labels)
        assert found.digest() == expected.digest()


def test_a_recipe_trains_on_a_source_that_was_registered_like_a_plug_in(registered, places):
    weights = []
    for kind, path in zip(("image-folder", "zip-in-a-test"), places, strict=True):
        fields = {"type": kind, "path": str(path), **FIELDS}
        recipe = load_arms(TINY, f"data={json.dumps(fields)}").recipes["e-tsdm"]
        assert recipe.data.model_dump(mode="json").items() >= fields.items()
        trainer = Trainer(recipe.model, recipe.training, recipe.data.open("train"), seed=0)
        before = {key: value.clone() for key, value in trainer.denoiser.state_dict().items()}
        for _ in range(2):
            trainer.step()
        weights.append(trainer.denoiser.state_dict())
        assert not all(torch.equal(weights[-1][key], before[key]) for key in before)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_messages_name_the_place_inside_the_archive(places, tmp_path):
    with ZipFile(tmp_path / "images.zip", "a") as archive:
        archive.writestr("0/zz.png", b"no image")
    images = ImageZip(path=str(places[1]), **{**FIELDS, "held_out": 0}).open("train")
    with pytest.raises(DataError, match=rf"^{places[1]}/0/zz.png: is not a PNG"):
        images.load()


@pytest.mark.parametrize(("names", "found"), [(None, "is no archive"), ([], "holds no images")])
def test_a_missing_or_empty_archive_is_named_with_the_field_that_moves_it(tmp_path, names, found):
    if names is not None:
        ZipFile(tmp_path / "x.zip", "w").close()
    with pytest.raises(DataError) as error:
        ImageZip(path=str(tmp_path / "x.zip"), image_size=8).check()
    lines = str(error.value).splitlines()
    assert lines[0] == f"data.path: {tmp_path / 'x.zip'} {found}"
    assert lines[1].startswith("expected in this archive: PNG, JPEG or WebP images, of 8x8 pixels or larger")
    assert lines[2] == "put the images there, or name another archive with data.path=ARCHIVE"


def test_a_digest_hashes_what_the_source_reads(places):
    images = ImageZip(path=str(places[1]), image_size=8, channels=1, held_out=0, filter="box").open("train")
    content = "(1, 8, 8)box" + "".join(f"\n{hashlib.sha256((places[0] / name).read_bytes()).hexdigest()} 0 {name}" for name in images.names)
    assert images.digest() == hashlib.sha256(content.encode()).hexdigest()
