"""Generated images as tensors: bits, order, missing images, and the digest that they belong to."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.data import LoadedImages
from etsdm.errors import IntegrityError
from etsdm.sampling import SampledImages, TensorStore

IMAGES = torch.randn(9, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A store of nine images that came in two goes."""
    store = TensorStore(tmp_path_factory.mktemp("full") / "samples", "digest")
    store.open_for(9)
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
    assert str(error.value) == f"{full.path}: image {missing} is missing; generate the samples again"


def test_a_gap_between_files_is_named(tmp_path):
    store = TensorStore(tmp_path, "one")
    store.open_for(9)
    store.write([0, 1, 5], IMAGES[[0, 1, 5]])
    for indices, missing in (([0, 3, 5], 3), ([2], 2)):
        with pytest.raises(IntegrityError, match=f"image {missing} is missing"):
            store.read(indices)


def test_a_damaged_file_is_named(tmp_path):
    store = TensorStore(tmp_path, "one")
    store.open_for(9)
    store.write([0], IMAGES[:1])
    [file] = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(IntegrityError) as error:
        store.read([0])
    assert str(error.value).startswith(f"{file}: cannot be read (")
    assert str(error.value).endswith("; remove it and generate the samples again")


def test_images_of_another_digest_are_ignored_and_removed_when_the_folder_is_opened(tmp_path):
    one, two = TensorStore(tmp_path, "one"), TensorStore(tmp_path, "two")
    one.open_for(2)
    one.write([0, 1], torch.zeros(2, 1, 2, 2))
    (tmp_path / "mine.txt").write_text("not the store's")
    assert TensorStore(tmp_path, "one").missing([0, 1, 2]) == [2]
    assert two.missing([0, 1, 2]) == [0, 1, 2]
    assert one.missing([0, 1, 2]) == [2]  # to look removes nothing
    one.open_for(2)
    assert one.missing([0, 1, 2]) == [2]
    two.open_for(2)
    assert one.missing([0, 1, 2]) == two.missing([0, 1, 2]) == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "mine.txt"]


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
