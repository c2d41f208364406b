"""Each release in its own layout, prepared, has the pixels of its originals, cropped and resized by the convention of its users."""

import io
import json
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from image_layouts import LABELS, LAYOUTS, LEVELS, cifar_folder
from PIL import Image
from releases_on_disk import RELEASES, N, animals, center_crop, ffhq, lsun, lsun_crop

from etsdm.data import ImageFolder
from etsdm.data.preparation import prepare_images, release_dataset
from etsdm.data.releases import RELEASES as TABLE
from etsdm.errors import DataError, PartError
from etsdm.registry import datasets

SIZE = 16


def prepared(path, **fields):
    kind = "zip" if path.suffix == ".zip" else "image-folder"
    return datasets.create(kind, path=str(path), image_size=SIZE, held_out=0, **fields).open("train").load()


@pytest.mark.parametrize("name", RELEASES)
def test_the_prepared_set_has_the_pixels_that_a_recipe_reads_from_the_originals(name, tmp_path):
    write, images, kind = RELEASES[name]
    root = write(tmp_path)
    record = prepare_images(release_dataset(name, root, size=SIZE, count=N), tmp_path / "out" / "set.zip", release=name)
    prepare_images(release_dataset(name, root, size=SIZE, count=N), tmp_path / "out" / "set", release=name, workers=3)
    filters = {} if TABLE[name].filter == "lanczos" else {"filter": TABLE[name].filter}
    original = datasets.create(kind, path=str(tmp_path / images), image_size=SIZE, held_out=0, **filters).open("train").load()
    for path in (tmp_path / "out" / "set.zip", tmp_path / "out" / "set"):
        assert torch.equal(prepared(path).pixels, original.pixels)
    assert (record.release, record.images, record.duplicates == [], record.left_out) == (name, N, name != "folder", {})


def test_the_presets_of_recipes_read_prepared_images(tmp_path):
    root = ffhq(tmp_path)
    prepare_images(release_dataset("ffhq", root, size=SIZE, count=N), tmp_path / "data/ffhq")
    fields = {"image_size": SIZE, "count": N, "held_out": 2}
    found = [datasets.create("ffhq", path=str(path), **fields) for path in (tmp_path / "data/ffhq", root / "images1024x1024")]
    for split in ("train", "test"):
        assert torch.equal(*(part.open(split).load().pixels for part in found))


def test_files_are_those_of_edms_tool(tmp_path):
    root = animals(tmp_path)
    prepare_images(release_dataset("folder", root, size=SIZE), tmp_path / "set.zip")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    with ZipFile(tmp_path / "set.zip") as archive:
        names = [f"00000/img{k:08d}.png" for k in range(6)]
        assert archive.namelist() == [*names, "dataset.json"]
        for name, file in zip(names, files, strict=True):
            with Image.open(file) as opened:
                assert archive.read(name) == center_crop(np.array(opened), SIZE)
        assert archive.read("dataset.json").decode() == json.dumps({"labels": [[name, k // 3] for k, name in enumerate(names)]})
        assert {info.compress_type for info in archive.infolist()} == {0}


def test_lsun_at_its_own_size_is_that_of_guided_diffusion(tmp_path):
    root = lsun(tmp_path, "church_outdoor_train_lmdb")
    part = release_dataset("lsun-church", root, size=32, count=N)
    prepare_images(part, tmp_path / "set")
    for k, name in enumerate(part.names()):
        with Image.open(tmp_path / "set" / f"00000/img{k:08d}.png") as found, Image.open(io.BytesIO(part.read(name))) as original:
            assert np.array_equal(np.array(found), lsun_crop(original, 32))


def test_class_labels_are_kept(tmp_path):
    root = animals(tmp_path)
    record = prepare_images(release_dataset("folder", root, size=SIZE), tmp_path / "set")
    assert (record.class_names, record.class_counts) == (["cat", "dog"], [3, 3])
    again = prepare_images(release_dataset("folder", tmp_path / "set", size=SIZE), tmp_path / "again.zip")
    assert (again.class_names, again.class_counts, again.set_sha256) == ([], [3, 3], record.set_sha256)
    for path in (tmp_path / "set", tmp_path / "again.zip"):
        assert prepared(path, classes="auto").labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("labels", [{"labels": None}, {"labels": [["a/0.png", 4], ["b/0.png", 1]]}])
def test_dataset_json_decides_whether_folders_are_classes(tmp_path, labels):
    for name in ("a/0.png", "b/0.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE), "red").save(tmp_path / "in" / name)
    (tmp_path / "in/dataset.json").write_text(json.dumps(labels))
    prepare_images(release_dataset("folder", tmp_path / "in", size=SIZE), tmp_path / "set")
    found = json.loads((tmp_path / "set/dataset.json").read_text())["labels"]
    assert (found and [label for _, label in found]) == (labels["labels"] and [4, 1])


def test_cifar10_keeps_its_levels_and_labels(tmp_path):
    part = datasets.create("cifar10", path=str(cifar_folder(tmp_path)), verify=False)
    record = prepare_images(part, tmp_path / "cifar10.zip", release="cifar10", workers=2)
    found = datasets.create("zip", path=str(tmp_path / "cifar10.zip"), image_size=32, classes=10, held_out=0).open("train")
    stored, labels = found.read(range(25))
    assert np.array_equal(stored.permute(0, 2, 3, 1).numpy(), LEVELS[:25])
    assert labels.tolist() == LABELS[:25].tolist()
    assert (record.images, record.class_counts) == (25, [10, 10, 5])


@pytest.mark.parametrize("name", [name for name in LAYOUTS if not name.startswith("cifar10")])
def test_every_source_can_be_prepared(name, tmp_path):
    part = LAYOUTS[name].part(LAYOUTS[name].write(tmp_path))
    record = prepare_images(part, tmp_path / "set.zip")
    found = datasets.create("zip", path=str(tmp_path / "set.zip"), image_size=32, classes=3, held_out=0).open("train")
    stored, labels = found.read(range(30))
    assert np.array_equal(stored.permute(0, 2, 3, 1).numpy(), LEVELS)
    assert labels.tolist() == LABELS.tolist()
    assert (record.images, record.class_counts) == (30, [10, 10, 10])


def test_whole_images_and_grey_ones_are_fields(tmp_path):
    part = release_dataset("folder", animals(tmp_path), size=SIZE, resize="area", channels=1)
    prepare_images(part, tmp_path / "set")
    with Image.open(tmp_path / "animals/cat/0.png") as opened, Image.open(tmp_path / "set/00000/img00000000.png") as found:
        assert np.array_equal(np.array(found), np.array(opened.convert("L").resize((SIZE, SIZE), Image.Resampling.BOX)))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ffhq", {}, r"images1024x1024: holds 6 images, not 70,000; complete it, .* --count 6"),
        ("ffhq", {"source": "nowhere"}, r"nowhere: is not there; get FFHQ's folder images1024x1024"),
        ("folder", {"source": "ffhq-dataset/images1024x1024/00000/00000.png"}, r"00000.png: is no folder.*; give a folder"),
        ("folder", {"source": "empty"}, r"empty: holds no PNG, JPEG or WebP images; give"),
    ],
)
def test_what_is_no_release_is_refused(tmp_path, name, fields, message):
    ffhq(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        release_dataset(name, tmp_path / fields.pop("source", "ffhq-dataset"), **fields)


@pytest.mark.parametrize(("fields", "field"), [({"size": 64}, "size"), ({"background": "white"}, "background")])
def test_cifar10_has_one_size_and_is_not_decoded(tmp_path, fields, field):
    with pytest.raises(PartError) as error:
        release_dataset("cifar10", cifar_folder(tmp_path), **fields)
    assert error.value.field == field


def test_every_release_but_any_folder_says_what_to_get():
    for name, release in TABLE.items():
        assert bool(release.download) == (name != "folder")
        if release.images:
            assert f"{release.images:,}" in release.download or name == "cifar10"


def test_the_default_filter_is_that_of_the_folder_source():
    assert {TABLE[name].filter for name in ("ffhq", "celeba-hq", "afhq-cat", "afhq-wild")} == {ImageFolder.model_fields["filter"].default}
