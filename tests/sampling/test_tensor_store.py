"""Generated images as tensors: bits, order, missing images, and the digest that they belong to."""

import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from etsdm.data import LoadedImages
from etsdm.errors import IntegrityError
from etsdm.sampling import SampledImages, TensorStore

IMAGES = torch.randn(9, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A store of nine images that came in two goes."""
    store = TensorStore(tmp_path_factory.mktemp("full") / "samples", "digest")
    store.open()
    store.write([4, 5, 8], IMAGES[[4, 5, 8]])
    assert store.missing(range(9)) == [0, 1, 2, 3, 6, 7]
    store.write([0, 1, 2, 3, 6, 7], IMAGES[[0, 1, 2, 3, 6, 7]])
    return store


def test_images_in_a_row_share_a_file_that_says_which_they_are(full):
    names = ["00000000-00000004", "00000004-00000006", "00000006-00000008", "00000008-00000009"]
    assert sorted(file.stem for file in full.path.glob("*.safetensors")) == names
    assert full.missing(range(11)) == [9, 10]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=20))
def test_images_come_back_to_the_last_bit_in_any_order(full, indices):
    assert torch.equal(full.read(indices), IMAGES[indices])


@pytest.mark.parametrize(("indices", "missing"), [([9], 9), ([8, 12, 10, 0], 10)])
def test_an_image_that_is_not_there_is_named(full, indices, missing):
    with pytest.raises(IntegrityError) as error:
        full.read(indices)
    assert str(error.value) == f"{full.path}: image {missing} is missing, or its file is damaged; generate the samples again"


def test_a_gap_between_files_is_named(tmp_path):
    store = TensorStore(tmp_path, "one")
    store.open()
    store.write([0, 1, 5], IMAGES[[0, 1, 5]])
    for indices, missing in (([0, 3, 5], 3), ([2], 2)):
        with pytest.raises(IntegrityError, match=f"image {missing} is missing"):
            store.read(indices)


def copied(file, other):
    shutil.copy(file, file.with_name(f"{other}.safetensors"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:40]),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: flip(file, -1),
        lambda file: flip(file, 30),
        lambda file: copied(file.with_name("00000003-00000006.safetensors"), file.stem),
        lambda file: file.write_bytes(save({"images": IMAGES[:3]})),
        lambda file: file.write_bytes(save({"images": IMAGES[:3].double()})),
    ],
    ids=["cut", "empty", "removed", "image", "header", "another", "unsealed", "other type"],
)
def test_a_damaged_file_holds_nothing_and_its_images_are_stored_again(tmp_path, damage):
    store = TensorStore(tmp_path, "one")
    store.open()
    for begin in (0, 3):
        store.write(range(begin, begin + 3), IMAGES[begin : begin + 3])
    damage(tmp_path / "00000000-00000003.safetensors")
    assert store.missing(range(6)) == [0, 1, 2]
    assert torch.equal(store.read([5, 3]), IMAGES[[5, 3]])
    with pytest.raises(IntegrityError, match=r"image 1 is missing, or its file is damaged; generate the samples again$"):
        store.read([4, 1])
    store.open()
    assert [file.stem for file in tmp_path.iterdir()] == ["00000003-00000006"]
    store.write(range(3), IMAGES[:3])
    assert torch.equal(store.read(range(6)), IMAGES[:6])


def test_a_copy_under_another_name_is_not_used_and_hides_nothing(tmp_path):
    store = TensorStore(tmp_path, "one")
    store.open()
    store.write(range(2, 5), IMAGES[2:5])
    for name in ("00000001-00000004", "00000000-99999999", "00000006-00000009", "1-x", "00000009-00000001"):
        copied(tmp_path / "00000002-00000005.safetensors", name)
    assert store.missing(range(9)) == [0, 1, 5, 6, 7, 8]
    assert torch.equal(store.read([4, 2]), IMAGES[[4, 2]])
    store.open()
    assert [file.stem for file in tmp_path.iterdir()] == ["00000002-00000005"]


def test_images_of_another_digest_are_ignored_and_removed_when_the_folder_is_opened(tmp_path):
    one, two = TensorStore(tmp_path, "one"), TensorStore(tmp_path, "two")
    one.open()
    one.write([0, 1], torch.zeros(2, 1, 2, 2))
    (tmp_path / "mine.txt").write_text("not the store's")
    assert TensorStore(tmp_path, "one").missing([0, 1, 2]) == [2]
    assert two.missing([0, 1, 2]) == [0, 1, 2]
    assert one.missing([0, 1, 2]) == [2]  # to look removes nothing
    one.open()
    assert one.missing([0, 1, 2]) == [2]
    two.open()
    assert one.missing([0, 1, 2]) == two.missing([0, 1, 2]) == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_sampled_images_are_those_of_a_data_set(full):
    sampled = SampledImages(full, 7, lambda indices: indices % 3)
    assert len(sampled) == 7
    assert sampled.digest() == "digest"
    expected = LoadedImages(IMAGES[:7], torch.arange(7) % 3)
    for (rows, found), (same, wanted) in zip(sampled.batches(3), expected.batches(3), strict=True):
        assert rows == same
        assert torch.equal(found.pixels, wanted.pixels)
        assert torch.equal(found.labels, wanted.labels)
    assert sampled.to("meta").batch([0]).pixels.device.type == "meta"
