"""Packed names behave as a list of str, in a fraction of its memory."""

import pickle
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.data.names import PackedNames, image_names, is_outside
from etsdm.errors import DataError

# Names of files may hold bytes that are no UTF-8, as surrogates.
NAMES = st.lists(st.text(st.characters(codec=None), min_size=1, max_size=8), max_size=12, unique=True)


@given(NAMES, st.data())
def test_packed_names_are_the_names(names, data):
    names = sorted(names)
    packed = PackedNames(names)
    assert list(packed) == packed[:] == names
    assert packed == names
    assert (len(packed), packed != [*names, "x"]) == (len(names), True)
    assert [packed.find(name) for name in names] == list(range(len(names)))
    rows = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=9)) if names else []
    taken = packed.take(torch.tensor(rows, dtype=torch.long))
    assert list(taken) == [names[k] for k in rows]
    assert list(taken.take(torch.arange(len(rows)).flip(0))) == [names[k] for k in rows[::-1]]
    assert pickle.loads(pickle.dumps(taken)) == list(taken)
    other = data.draw(st.text(max_size=3))
    assert packed.holds(other) == (other in names)


def test_indices_are_those_of_a_list():
    packed = PackedNames(["a", "b", "c"])
    assert (packed[-1], packed[1:], PackedNames.of(packed) is packed) == ("c", ["b", "c"], True)
    for index in (3, -4):
        with pytest.raises(IndexError):
            packed[index]


def test_a_name_takes_few_bytes_more_than_its_letters():
    names = [f"{k // 1000:05d}/img{k:08d}.png" for k in range(20_000)]
    packed = PackedNames(names)
    assert sys.getsizeof(packed._bytes) + packed._ends.nbytes < sum(map(len, names)) + 9 * len(names)


@given(NAMES)
def test_images_are_sorted_by_code_point_with_their_places(names):
    names = [f"x{name.replace('/', '').replace(chr(92), '').replace(chr(0), '').replace(':', '')}.png" for name in names]
    if len(set(names)) < len(names):
        with pytest.raises(DataError, match="stands there twice"):
            image_names(names, "a.zip")
        return
    packed, order = image_names(names, "a.zip")
    assert packed == sorted(names) == [names[k] for k in order.tolist()]


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a/..", "", ".", "C:/a", "c:a/b", "..\\a", "\\\\host\\a", "a\0b"])
def test_names_that_are_no_path_inside_are_found(name):
    assert is_outside(name)


@pytest.mark.parametrize("name", ["a", "a/b", "a..b/c", "...", "ab:c", "ä/é.png", "./a"])
def test_other_names_are_not(name):
    assert not is_outside(name)
