import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from etsdm.data.split import HeldOut, split_groups, split_indices
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


@pytest.mark.parametrize("held_out", [0.2, 0.5, 10])
def test_a_split_of_groups_takes_whole_groups(held_out):
    groups = torch.tensor([0] * 7 + [3, 3, 3, 8, 8] * 2 + list(range(20, 40)))
    for seed in range(20):
        train, test = (split_groups(groups, held_out, seed, split) for split in ("train", "test"))
        assert torch.cat([train, test]).sort().values.tolist() == list(range(37))
        assert not set(groups[train].tolist()) & set(groups[test].tolist())
        # There are 20 groups of one image, so that the test split is filled.
        assert len(test) == len(split_indices(37, held_out, seed, "test"))
        assert train.tolist() == sorted(train.tolist())


def test_groups_of_a_split_are_drawn_from_the_seed():
    groups = torch.arange(1000) // 2
    drawn = [split_groups(groups, 0.2, seed, "test").tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    shares = torch.zeros(500)
    for seed in range(200):
        shares[groups[split_groups(groups, 0.2, seed, "test")].unique()] += 1
    # 100 of 500 groups each time: binomial, 200 draws of 0.2, a deviation of 5.7; the largest of 500 is within five of these.
    assert (shares - 40).abs().max() < 5 * 5.7


def test_groups_that_do_not_fit_leave_a_smaller_test_split():
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    assert split_groups(groups, 3, 0, "test").tolist() == [4, 5, 6]
    assert split_groups(groups, 0, 0, "test").tolist() == []
    with pytest.raises(DataError, match=r"data\.held_out: 2 is less than any group of images that belong together; hold out more"):
        split_groups(groups, 2, 0, "test")
