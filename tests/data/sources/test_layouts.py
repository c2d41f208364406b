"""One test over all sources: the same pictures in every layout give the same pixels, labels and splits."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from image_layouts import LABELS, LAYOUTS, LEVELS, TEST, N, folder, zip_file
from torch.utils.data import DataLoader

from etsdm.errors import DataError, EtsdmError
from etsdm.registry import datasets, optional

PIXELS = torch.from_numpy(LEVELS.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1))
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
drawn = {name: layout for name, layout in LAYOUTS.items() if layout.type != "cifar10"}
every_drawn_split = pytest.mark.parametrize("layout", drawn.values(), ids=drawn)


def expected(layout):
    """Indices of the pictures in the two splits."""
    if layout.type == "cifar10":
        return range(N - TEST), range(N - TEST, N)
    order = datasets.create("image-folder", path="x", image_size=1, held_out=TEST)
    return tuple(order._rows(N, split).tolist() for split in ("train", "test"))


@every_layout
def test_pixels_labels_and_split_are_those_of_the_pictures(layout, written):
    part = layout.part(written(layout))
    part.check()
    list(part.check_files())
    assert (part.shape, part.num_classes) == ((3, 32, 32), 10 if layout.type == "cifar10" else 3)
    for split, rows in zip(("train", "test"), expected(layout), strict=True):
        images = part.open(split)
        loaded = images.load()
        assert torch.equal(loaded.pixels, PIXELS[list(rows)])
        assert loaded.labels.tolist() == images.class_labels().tolist() == LABELS[list(rows)].tolist()
        stored, labels = images.read([2, 0, 2])
        assert stored.dtype == torch.uint8
        assert torch.equal(stored, torch.from_numpy(LEVELS.transpose(0, 3, 1, 2)[[rows[2], rows[0], rows[2]]]))
        assert labels.dtype == torch.int64


@every_drawn_split
def test_classes_are_counted_and_left_out(layout, written):
    path = written(layout)
    assert layout.part(path, classes="auto").num_classes == 3
    plain = layout.part(path, classes=None)
    assert (plain.num_classes, plain.open("train").class_labels().unique().tolist()) == (1, [0])
    with pytest.raises(DataError, match=r"^data\.classes: 2, but .*; give (that number|3 or more)$"):
        layout.part(path, classes=2).check()


@every_drawn_split
def test_another_number_of_images_than_declared_is_refused(layout, written):
    assert len(layout.part(written(layout), count=N, held_out=0).open("train")) == N
    with pytest.raises(DataError, match=rf"holds {N} images, not 7\n(.|\n)*set data\.count={N}$"):
        layout.part(written(layout), count=7, held_out=0).check()


@every_layout
def test_digest_and_fingerprint_are_those_of_the_content_wherever_it_is(layout, written, tmp_path):
    path = written(layout)
    copy = tmp_path / "elsewhere"
    shutil.copytree(path.parent, copy)
    parts = [layout.part(path), layout.part(copy / path.name)]
    assert len({part.open("test").digest() for part in parts}) == 1
    assert len({part.files().content for part in parts}) == 1
    assert parts[0].files().place == str(path)
    assert parts[0].identity() == parts[1].identity()
    assert parts[0].open("train").digest() != parts[0].open("test").digest()


@every_layout
def test_a_part_comes_back_from_its_dump(layout, written):
    part = layout.part(written(layout))
    assert datasets.parse(part.model_dump(mode="json")) == part


@every_layout
def test_pickled_images_are_the_same_and_small(layout, written):
    images = layout.part(written(layout)).open("train")
    before = images.read([3])[0]
    content = pickle.dumps(images)
    if not images.in_memory:
        assert len(content) < LEVELS.nbytes / 10
    again = pickle.loads(content)
    assert torch.equal(again.read([3])[0], before)
    assert again.digest() == images.digest()


@every_layout
def test_threads_and_forked_processes_read_the_same(layout, written):
    images = layout.part(written(layout)).open("train")
    order = [torch.randint(len(images), (4,), generator=torch.Generator().manual_seed(k)) for k in range(40)]
    wanted = [images.read(indices)[0] for indices in order]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda indices: images.read(indices)[0], order))
    assert all(map(torch.equal, found, wanted))
    batches = [indices.tolist() for indices in order[:6]]
    forked = {"num_workers": 2, "multiprocessing_context": "fork", "timeout": 30}
    loader = DataLoader(range(len(images)), batch_sampler=batches, collate_fn=lambda k: images.read(k)[0], **forked)
    assert all(map(torch.equal, loader, wanted[:6]))


@every_layout
def test_a_missing_container_is_named_with_the_mend(layout, tmp_path):
    part = layout.part(tmp_path / "nowhere", **({} if layout.type == "cifar10" else {"source": "it from a friend"}))
    with pytest.raises(DataError) as error:
        part.check()
    first, second, get, put = str(error.value).splitlines()
    assert first.startswith(f"data.path: {tmp_path / 'nowhere'} is no ")
    assert second.startswith(f"expected in this {part.container}: ")
    assert get.startswith("get ")
    assert put.startswith(f"put the images there, or name another {part.container} with data.path={part.container.split()[-1].upper()}")
    assert part.files().content is None


def test_folder_zip_folder_keeps_every_byte(tmp_path):
    first = folder(tmp_path)
    zipped = zip_file(tmp_path)
    with ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "again")
    parts = [
        LAYOUTS["image-folder"].part(first),
        LAYOUTS["zip"].part(tmp_path / "images.zip"),
        LAYOUTS["image-folder"].part(tmp_path / "again"),
    ]
    for split in ("train", "test"):
        assert len({part.open(split).digest() for part in parts}) == 1
        assert [list(part.open(split).names) for part in parts[1:]] == [list(parts[0].open(split).names)] * 2


@pytest.mark.parametrize(("layout", "extra"), [("lmdb", "lmdb"), ("huggingface saved", "hf")])
def test_a_library_that_is_not_installed_is_named_with_its_extra(layout, extra, written, monkeypatch, tmp_path):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    path = LAYOUTS[layout].write(tmp_path)
    with pytest.raises(
        EtsdmError, match=rf"is not installed, and data set '{LAYOUTS[layout].type}' needs it; pip install 'etsdm\[{extra}\]'$"
    ):
        LAYOUTS[layout].part(path).check()
