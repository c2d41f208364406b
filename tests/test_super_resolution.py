import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from etsdm.randomness import normal
from etsdm.registry import explain
from etsdm.super_resolution import SuperResolution

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
every_filter = pytest.mark.parametrize("filter", list(PILLOW))


def images(batch=2, channels=3, size=16):
    return normal(0, "test/images", range(batch), (channels, size, size)).clamp(-1, 1)


@every_filter
@pytest.mark.parametrize("factor", [2, 4])
def test_small_images_are_those_of_pillow(filter, factor):
    # Pillow widens its filters to the reduction too, and its bicubic has the same a = -0.5; it works on one float channel at a time.
    large = images()
    small = SuperResolution(factor=factor, filter=filter).reduce(large)
    assert small.shape == (2, 3, 16 // factor, 16 // factor)
    for found, channel in zip(small.flatten(0, 1), large.flatten(0, 1), strict=True):
        expected = Image.fromarray(channel.numpy()).resize((16 // factor, 16 // factor), PILLOW[filter])
        np.testing.assert_allclose(found.numpy(), np.asarray(expected).clip(-1, 1), atol=1e-5)


@every_filter
@given(value=st.floats(-1, 1, width=32), factor=st.sampled_from([2, 4]))
def test_constant_images_keep_their_value(filter, value, factor):
    part, flat = SuperResolution(factor=factor, filter=filter), torch.full((1, 1, 8, 8), value)
    small = part.reduce(flat)
    torch.testing.assert_close(small, torch.full((1, 1, 8 // factor, 8 // factor), value))
    torch.testing.assert_close(part.enlarge(small, flat), flat)


def test_a_bilinear_half_of_a_ramp_is_its_mean_away_from_the_edges():
    # Weights 1, 3, 3, 1 over 8, the triangle of twice the width: symmetric, so exact on what is linear.
    ramp = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    small = SuperResolution(factor=2, filter="bilinear").reduce(ramp)
    torch.testing.assert_close(small[0, 0, 0, 1:-1], ramp[0, 0, 0].reshape(8, 2).mean(1)[1:-1])


def test_enlarging_by_two_is_the_known_weights():
    # Bilinear, pixel centres aligned: 3/4 of the nearer and 1/4 of the farther pixel, the edge repeated.
    small = torch.tensor([[0.0, 1.0]]).expand(1, 1, 2, 2)
    found = SuperResolution(factor=2, filter="bilinear").enlarge(small, torch.empty(1, 1, 4, 4))
    assert found[0, 0].tolist() == [[0, 0.25, 0.75, 1]] * 4


def test_small_images_do_not_leave_the_range_of_images():
    # A bicubic filter overshoots at an edge.
    edge = torch.ones(1, 1, 16, 16)
    edge[..., :7] = -1
    part = SuperResolution(factor=2)
    small = part.reduce(edge)
    assert (small.min(), small.max()) == (-1, 1)
    assert part.enlarge(small, edge).max() > 1  # what the network is given is not clipped


def test_enlarged_images_have_the_dtype_of_the_noisy_ones():
    found = SuperResolution(factor=2).enlarge(images(size=4).double(), torch.empty(2, 3, 8, 8, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16


def test_images_need_not_be_square():
    part = SuperResolution(factor=2)
    small = part.reduce(torch.zeros(1, 1, 8, 12))
    assert small.shape == (1, 1, 4, 6)
    assert part.enlarge(small, torch.zeros(1, 1, 8, 12)).shape == (1, 1, 8, 12)


def test_small_images_of_another_shape_are_refused():
    for shape in [(2, 3, 8, 8), (2, 1, 4, 4), (1, 3, 4, 4), (3, 4, 4)]:
        with pytest.raises(ValueError, match=r"^low_res: its shape is \(.*\); give \(2, 3, 4, 4\)$"):
            SuperResolution().enlarge(torch.zeros(shape), images())


def test_it_enlarges_four_times_by_bicubic_unless_told_otherwise():
    assert SuperResolution().model_dump() == {"factor": 4, "filter": "bicubic"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factor": 1}, "found 1; give 2 or more"),
        ({"factor": 2.5}, "found 2.5; give an integer"),
        ({"filter": "nearest"}, "found 'nearest'; give 'bicubic' or 'bilinear'"),
        ({"scale": 4}, "unknown field; it has: factor, filter"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValidationError) as error:
        SuperResolution(**fields)
    assert [problem.message for problem in explain(error.value)] == [message]
