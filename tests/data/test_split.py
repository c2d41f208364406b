import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from etsdm.data.split import HeldOut, split_indices
from etsdm.errors import DataError


@given(st.integers(2, 60), st.data(), st.integers(0, 3))
def test_every_image_is_in_one_split_in_rising_order(n, data, seed):
    held_out = data.draw(st.integers(0, n - 1))
    train, test = (split_indices(n, held_out, seed, split) for split in ("train", "test"))
    assert len(test) == held_out
    assert train.dtype == test.dtype == torch.int64
    for indices in (train, test):
        assert indices.tolist() == sorted(indices.tolist())
    assert sorted(train.tolist() + test.tolist()) == list(range(n))


@pytest.mark.parametrize(("held_out", "expected"), [(0.2, 2), (0.25, 2), (0.35, 4), (3, 3), (0, 0), (0.0, 0)])
def test_a_share_is_rounded_and_halves_go_to_even(held_out, expected):
    assert len(split_indices(10, held_out, 0, "test")) == expected


def test_a_share_and_its_number_hold_out_the_same_images_and_another_seed_others():
    first = split_indices(100, 10, 0, "test")
    assert torch.equal(split_indices(100, 0.1, 0, "test"), first)
    assert not torch.equal(split_indices(100, 10, 1, "test"), first)


@pytest.mark.parametrize("held_out", [10, 11, 0.96])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_that_leaves_no_image_for_training_is_refused(held_out, split):
    with pytest.raises(DataError, match=rf"^data\.held_out: {held_out} .* 10 .*; hold out fewer$"):
        split_indices(10, held_out, 0, split)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_share_that_comes_to_no_image_is_refused(split):
    with pytest.raises(DataError, match=r"^data\.held_out: 0\.04 .* 10 .*; hold out more, or 0 for none$"):
        split_indices(10, 0.04, 0, split)


@pytest.mark.parametrize("value", [0, 0.0, 1, 7, 0.999])
def test_a_share_stays_a_share_and_a_number_a_number(value):
    found = TypeAdapter(HeldOut).validate_python(value)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("value", [-1, -0.1, 1.0, 2.5])
def test_a_field_that_is_neither_share_nor_number_is_refused(value):
    with pytest.raises(ValidationError, match="give a share below 1, or a whole number of images"):
        TypeAdapter(HeldOut).validate_python(value)
