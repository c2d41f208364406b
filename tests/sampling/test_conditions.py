"""Labels and low-resolution images by sample index."""

import pytest
import torch
from PIL import Image

from etsdm.data import LoadedImages
from etsdm.denoisers.super_resolution import SuperResolution
from etsdm.errors import DataError, PartError
from etsdm.sampling import Conditions, ReducedImages, read_low_res

SMALL = torch.arange(3 * 4.0).reshape(3, 1, 2, 2) / 6 - 1


def test_nothing_is_given_without_classes_and_super_resolution():
    assert Conditions()([0, 5]) == {}
    assert Conditions().class_labels(torch.tensor([0, 5])).tolist() == [0, 0]


def test_labels_are_used_in_turn_by_index():
    conditions = Conditions(labels=(4, 0, 7))
    assert conditions([0, 1, 2, 3, 301])["y"].tolist() == [4, 0, 7, 4, 0]
    assert conditions.class_labels(torch.tensor([5, 3])).tolist() == [7, 4]
    assert conditions(range(2))["y"].dtype == torch.int64


def test_low_resolution_images_are_used_in_turn_by_index():
    found = Conditions(low_res=SMALL)([2, 3, 7])
    assert torch.equal(found["low_res"], SMALL[[2, 0, 1]])
    assert set(found) == {"low_res"}


def test_reduced_images_are_those_of_the_split():
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    reducer = SuperResolution(factor=4)
    conditions = Conditions(labels=range(2), low_res=ReducedImages(LoadedImages(pixels, torch.zeros(3, dtype=torch.long)), reducer))
    found = conditions([4, 0])
    assert torch.equal(found["low_res"], reducer.reduce(pixels[[1, 0]]))
    assert found["y"].tolist() == [0, 0]


@pytest.fixture
def spec(tiny_spec):
    return tiny_spec(super_resolution={"factor": 2}, backbone={"in_channels": 2})


def test_files_are_read_in_the_order_of_their_names(spec, tmp_path):
    for name, grey in (("b.png", 0), ("a.png", 255)):
        Image.new("L", (4, 4), grey).save(tmp_path / name)
    expected = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert torch.equal(read_low_res(tmp_path, spec), expected)
    assert torch.equal(read_low_res(tmp_path / "b.png", spec), expected[1:])


def test_files_that_do_not_fit_are_refused(spec, tiny_spec, tmp_path):
    with pytest.raises(PartError, match=r"^low_res: .* holds no images \(png, .*give a folder of them, or one file$"):
        read_low_res(tmp_path, spec)
    Image.new("L", (8, 8)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match=r"large\.png: .* 8x8 .* 4x4; give an image of that size"):
        read_low_res(tmp_path, spec)
    with pytest.raises(PartError, match=r"^low_res: .*; leave it out$"):
        read_low_res(tmp_path, tiny_spec())
