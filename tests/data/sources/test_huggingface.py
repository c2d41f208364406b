"""Data sets in the layouts of the library `datasets`."""

import datasets as library
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from image_layouts import FILES, LABELS, LAYOUTS, LEVELS, folder, parquet, rows_on_disk
from pydantic import TypeAdapter
from refusals import garbage, refusal

from etsdm.errors import DataError, EtsdmError
from etsdm.registry import datasets
from etsdm.registry.paths import FilePath, TextOfFile


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = parquet(tmp_path)
    garbage(path / "train.parquet")
    assert "cannot be opened" in refusal("huggingface", path)


def test_a_row_that_refers_to_a_file_elsewhere_is_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(next(iter(FILES.values())))
    features = library.Features({"image": library.Image()})
    rows = {"image": [{"bytes": None, "path": str(tmp_path / "secret.png")}]}
    (tmp_path / "rows").mkdir()
    table = pyarrow.table(rows, features.arrow_schema)
    pyarrow.parquet.write_table(table, tmp_path / "rows" / "train.parquet")
    message = refusal("huggingface", tmp_path / "rows", classes=None, held_out=0)
    assert f"refers to {tmp_path}/secret.png, which is not in {tmp_path}/rows; it was not read" in message


def test_a_stream_is_refused_with_the_reason():
    with pytest.raises(EtsdmError, match=r"streaming: a stream gives its rows in one order, and training needs any image at any time"):
        datasets.create("huggingface", path="x", image_size=8, streaming=True)


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_repository_needs_a_commit(revision):
    with pytest.raises(EtsdmError, match=r"revision: .*and the hub's data may change; give the 40 hexadecimal digits of one"):
        datasets.create("huggingface", path="hf-hub:owner/name", image_size=8, revision=revision)


def test_a_folder_of_images_is_read_as_the_library_reads_it(tmp_path):
    path = folder(tmp_path)
    part = LAYOUTS["huggingface saved"].part(path, held_out=0)
    theirs = library.load_dataset(str(path), split="train")
    images = part.open("train")
    assert images.class_labels().tolist() == theirs["label"]
    for k in (0, 7, 29):
        assert np.array_equal(images.read([k])[0][0].permute(1, 2, 0).numpy(), np.asarray(theirs[k]["image"]))


def test_columns_are_found_by_name_or_by_type(tmp_path):
    path = rows_on_disk(tmp_path)
    plain = {"image_size": 32, "held_out": 0, "classes": "auto"}
    assert datasets.create("huggingface", path=str(path), **plain, image="pixels", label="text").num_classes == len(LABELS)
    with pytest.raises(DataError, match=r"^data\.label: .*/rows has no column 'kin'; did you mean 'kind'"):
        datasets.create("huggingface", path=str(path), **plain, label="kin").check()
    library.load_from_disk(str(path)).remove_columns("kind").save_to_disk(str(tmp_path / "unlabelled"))
    with pytest.raises(DataError, match=r"has no column of class labels; name one with data\.label, or set data\.classes=null"):
        datasets.create("huggingface", path=str(tmp_path / "unlabelled"), **plain).check()
    library.load_from_disk(str(path)).remove_columns("pixels").save_to_disk(str(tmp_path / "pictureless"))
    with pytest.raises(DataError, match=r"has no column of images \(text, kind\); name one with data\.image"):
        datasets.create("huggingface", path=str(tmp_path / "pictureless"), **plain).check()


def test_a_split_of_several_is_chosen(tmp_path):
    rows = library.load_from_disk(str(rows_on_disk(tmp_path)))
    library.DatasetDict(train=rows.select(range(20)), more=rows.select(range(20, 30))).save_to_disk(str(tmp_path / "several"))
    made = {"path": str(tmp_path / "several"), "image_size": 32, "held_out": 0}
    more = datasets.create("huggingface", **made, split="more").open("train")
    assert np.array_equal(more.read(range(10))[0].permute(0, 2, 3, 1).numpy(), LEVELS[20:])
    with pytest.raises(DataError, match=r"cannot be opened \(KeyError: .*lost.*\); check the folder, config and split"):
        datasets.create("huggingface", **made, split="lost").check()


def test_a_repository_is_no_path_below_the_recipe_and_needs_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    part = datasets.create("huggingface", path="hf-hub:owner/name", image_size=8, revision="0" * 40)
    assert part.model_dump(mode="json", context={"absolute_paths": True})["path"] == "hf-hub:owner/name"
    assert TypeAdapter(FilePath).validate_python(TextOfFile("hf-hub:owner/name", str(tmp_path))) == "hf-hub:owner/name"
    assert part.files().content == part.files().content != part.model_copy(update={"revision": "1" * 40}).files().content
    with pytest.raises(
        DataError, match=r"^data\.path: hf-hub:owner/name: cannot be opened \(.*; check the name, config, split and revision"
    ):
        part.check()
