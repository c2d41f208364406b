"""Shards, against the library webdataset."""

import json

import pytest
import webdataset
from image_layouts import FILES, LABELS, NAMES, SHUFFLED, shards, tar, with_labels

from etsdm.errors import DataError
from etsdm.registry import datasets, optional

PLAIN = {"image_size": 32, "held_out": 0, "classes": "auto"}


def part(path, **fields):
    return datasets.create("webdataset", **{"path": str(path), **PLAIN, **fields})


@pytest.mark.parametrize("extension", ["cls", "json"])
def test_samples_are_those_of_the_library(extension, tmp_path):
    for k in (0, 1):
        with webdataset.TarWriter(str(tmp_path / f"x-{k:03d}.tar")) as writer:
            for name in SHUFFLED[k::2]:
                label = int(LABELS[NAMES.index(name)])
                value = label if extension == "cls" else {"label": label, "text": "x" * 999}
                writer.write({"__key__": name.removesuffix(".png"), "png": FILES[name], extension: value})
    theirs = {
        sample["__key__"] + ".png": (sample["png"], json.loads(sample[extension]))
        for k in (0, 1)
        for sample in webdataset.WebDataset(str(tmp_path / f"x-{k:03d}.tar"), shardshuffle=False)
    }
    ours = part(tmp_path / "x-{000..001}.tar")
    assert list(ours.names()) == sorted(theirs) == NAMES
    for name, label in zip(ours.names(), ours.open("train").class_labels().tolist(), strict=True):
        content, known = theirs[name]
        assert ours.read(name) == ours.stream(name).read() == content
        assert label == (known if extension == "cls" else known["label"])
    assert ours.open("train").digest() == part(tmp_path / "*.tar").open("train").digest()


def test_a_message_names_the_shard(tmp_path):
    tar(tmp_path / "a.tar", with_labels(NAMES[:3]))
    tar(tmp_path / "b.tar", {**with_labels(NAMES[3:5]), "c0/bad.png": b"text", "c0/bad.cls": b"0"})
    with pytest.raises(DataError, match=rf"^{tmp_path}/b\.tar/c0/bad\.png: is not a PNG"):
        list(part(tmp_path / "?.tar").check_files())


def test_an_image_without_a_label_is_named(tmp_path):
    tar(tmp_path / "a.tar", {**with_labels(NAMES[:3]), "c0/bare.png": FILES[NAMES[0]]})
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/a\.tar/c0/bare\.png: has no \.cls member beside it; label it, or set data\.classes=null"
    ):
        part(tmp_path / "a.tar").check()


@pytest.mark.parametrize("content", ['{"class": 1}', "[]", "{", "3"])
def test_json_without_the_key_is_named(content, tmp_path):
    tar(tmp_path / "a.tar", {"x.png": FILES[NAMES[0]], "x.json": content.encode()})
    with pytest.raises(DataError, match=r"a\.tar/x\.png: its \.json member has no label 'label'; name the key with data\.label_key"):
        part(tmp_path / "a.tar").check()
    if "class" in content:
        assert part(tmp_path / "a.tar", label_key="class").num_classes == 2


def test_without_labels_beside_images_classes_are_sub_folders(tmp_path):
    images = part(tar(tmp_path / "a.tar", FILES)).open("train")
    assert images.class_labels().tolist() == LABELS.tolist()


def test_a_shard_that_is_missing_is_named(tmp_path):
    shards(tmp_path)
    with pytest.raises(DataError, match=r"^data\.path: .* includes part-2\.tar, which is no file\n"):
        part(tmp_path / "part-{0..2}.tar").check()
    for pattern in ("{0..100000}", "{0..999}-{0..99}-{a,b}", "{a,b}" * 20, "{{a,b},{c,d}}" * 20, f"{{0..{'9' * 5000}}}"):
        with pytest.raises(DataError, match=r"is more than 100,000 shards; give fewer"):
            part(tmp_path / f"part-{pattern}.tar").check()


def test_braces_need_a_library(tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    path = shards(tmp_path)
    assert part(path).num_classes == 3
    with pytest.raises(optional.LibraryError, match=r"a pattern with braces needs it; pip install 'etsdm\[webdataset\]'"):
        part(tmp_path / "part-{0..1}.tar").check()


def test_a_shard_that_changed_is_indexed_again(tmp_path):
    tar(tmp_path / "a.tar", with_labels(NAMES[:4]))
    assert len(part(tmp_path / "a.tar").open("train")) == 4
    tar(tmp_path / "a.tar", with_labels(NAMES[:9]))
    assert len(part(tmp_path / "a.tar").open("train")) == 9
