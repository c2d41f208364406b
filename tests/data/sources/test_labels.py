"""Labels of images from a file, and from what a container keeps beside them."""

import json
from zipfile import ZipFile

import pytest
from image_layouts import LABELS, LAYOUTS, NAMES

from etsdm.data import ImageFolder
from etsdm.errors import DataError, EtsdmError
from etsdm.registry import datasets


def rows(*names, label=0):
    return "".join(f"{name},{label}\n" for name in names)


@pytest.mark.parametrize("layout", ["image-folder", "zip", "lmdb", "webdataset"])
@pytest.mark.parametrize("kind", ["csv", "csv of names", "json", "edm"])
def test_a_file_of_labels_goes_before_those_of_the_container(layout, kind, written, tmp_path):
    labels = {name: (k * 7) % 4 for k, name in enumerate(NAMES)}
    file = tmp_path / ("labels.csv" if kind.startswith("csv") else "labels.json")
    words = {0: "ant", 1: "bee", 2: "cat", 3: "dog"}
    if kind == "json":
        file.write_text(json.dumps(labels))
    elif kind == "edm":
        file.write_text(json.dumps({"labels": list(labels.items())}))
    else:
        file.write_text("name,label\n" + "".join(f"{name},{words[k] if 'names' in kind else k}\n" for name, k in labels.items()))
    layout = LAYOUTS[layout]
    part = layout.part(written(layout), labels=str(file), classes="auto", held_out=0)
    assert part.num_classes == 4
    assert part.open("train").class_labels().tolist() == list(labels.values())
    before = part.files().content
    file.write_text(file.read_text().replace("\n", "\n\n", 1) + " ")
    assert part.files().content not in (before, layout.part(written(layout)).files().content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,0\n", r"has no label for .*c0/00\.png; add one, remove the image, or set data\.classes=null"),
        (
            rows(*NAMES, "lost.png"),
            r"labels 1 images that are not there \(lost\.png\); put them there, or remove",
        ),
        (rows(*NAMES, label=-1), r"'-1' is no class label; give each image one whole number from 0 to 999,999"),
        (rows(*NAMES, NAMES[0]), r"labels c0/00\.png twice; give one label to each image"),
        ("a,b,c\n", r"row 1 has 3 values; give lines of name,label"),
    ],
)
def test_a_file_of_labels_that_does_not_fit_is_refused(text, message, written, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    part = LAYOUTS["image-folder"].part(written(LAYOUTS["image-folder"]), labels=str(tmp_path / "labels.csv"), classes="auto")
    with pytest.raises(DataError, match=message):
        part.check()


@pytest.mark.parametrize(("content", "message"), [("{", "is no JSON"), ('{"labels": 3}', "has no labels by name"), ('{"a": 1.5}', "")])
def test_json_of_labels_that_is_none_is_refused(content, message, written, tmp_path):
    (tmp_path / "labels.json").write_text(content)
    part = LAYOUTS["image-folder"].part(written(LAYOUTS["image-folder"]), labels=str(tmp_path / "labels.json"), classes="auto")
    with pytest.raises(DataError, match=rf"^{tmp_path}/labels\.json: {message}.*; "):
        part.check()


def test_labels_without_classes_are_refused():
    with pytest.raises(EtsdmError, match=r"labels: classes is null, so no label is read; give classes: auto, or leave labels out"):
        datasets.create("image-folder", path="x", image_size=8, labels="labels.csv")


def test_a_folder_has_the_labels_of_its_dataset_json(tmp_path):
    with ZipFile(LAYOUTS["zip of EDM"].write(tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked")
    made = {"image_size": 32, "classes": "auto", "held_out": 0}
    images = ImageFolder(path=str(tmp_path / "unpacked"), **made).open("train")
    assert images.class_labels().tolist() == LABELS.tolist()
    assert images.digest() == datasets.create("zip", path=str(tmp_path / "images.zip"), **made).open("train").digest()
