import re

import numpy as np
import pytest
import torch
from doubles import RecordingNetwork
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torch import nn

from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.super_resolution import SuperResolution
from etsdm.randomness import per_sample_normal
from etsdm.registry import format_errors
from etsdm.schedules import Linear

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
PAIRED = {"in_channels": 2}  # the noisy image and the enlarged small one
T = torch.tensor([7.0, 59.0, 400.0], dtype=torch.float64)
every_filter = pytest.mark.parametrize("filter", list(PILLOW))


def images(batch=2, channels=3, size=16):
    return per_sample_normal(0, "test/images", range(batch), (channels, size, size)).clamp(-1, 1)


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
        with pytest.raises(ValueError, match=r"^low_res: .* \(.*\); give \(2, 3, 4, 4\)$"):
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
    assert [problem.message for problem in format_errors(error.value)] == [message]


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
def test_the_network_sees_the_noisy_image_scaled_and_the_small_one_enlarged(tiny_spec, filter):
    # Karras et al. scale the noisy image alone: a small image has no noise, and keeps its range.
    denoiser = Denoiser(
        tiny_spec(backbone=PAIRED, target="edm", super_resolution={"factor": 2, "filter": filter}),
        RecordingNetwork(lambda x: x[:, :1], 0.5),
    )
    assert denoiser.shape == denoiser.spec.image_shape == (1, 8, 8)
    low_res = per_sample_normal(0, "test/small", range(3), (1, 4, 4)).clamp(-1, 1)
    x = images(3, 1, 8)
    denoiser.output(x, T, low_res=low_res)
    noisy, enlarged = denoiser.backbone.inputs[0].split(1, dim=1)
    alpha, sigma = Linear().alpha(T), Linear().sigma(T)
    c_in = (1 / (sigma**2 + 0.25 * alpha**2).sqrt()).reshape(3, 1, 1, 1)  # sigma_data = 0.5
    torch.testing.assert_close(noisy, (c_in * x).float())
    torch.testing.assert_close(enlarged, nn.Upsample(scale_factor=2, mode=filter)(low_res))
    denoiser.predict(x, T, low_res=low_res)
    assert torch.equal(denoiser.backbone.inputs[1], denoiser.backbone.inputs[0])


def test_a_denoiser_is_shown_the_small_images_of_super_resolution(tiny_spec):
    denoiser = tiny_spec(backbone=PAIRED, super_resolution={"factor": 2}).build()
    x0, cond = denoiser.prepare_batch(images(3, 1, 8), torch.tensor([1, 2, 3]))
    assert torch.equal(x0, images(3, 1, 8))
    assert list(cond) == ["low_res"]
    assert torch.equal(cond["low_res"], denoiser.spec.super_resolution.reduce(images(3, 1, 8)))


def test_missing_and_misshapen_small_images_are_refused(tiny_denoiser):
    denoiser, x = tiny_denoiser(backbone=PAIRED, super_resolution={"factor": 2}), images(3, 1, 8)
    with pytest.raises(ValueError, match=r"^low_res: .*; give them$"):
        denoiser.predict(x, T)
    for shape in [(3, 1, 8, 8), (3, 2, 4, 4), (2, 1, 4, 4), (1, 4, 4)]:
        with pytest.raises(ValueError, match=rf"^low_res: .* {re.escape(str(shape))}; give \(3, 1, 4, 4\)$"):
            denoiser.predict(x, T, low_res=torch.zeros(shape))


def test_super_resolution_may_learn_its_variance(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={"in_channels": 2, "out_channels": 2}, super_resolution={"factor": 2})
    assert denoiser.spec.learns_variance
    found = denoiser.predict(images(3, 1, 8), T, low_res=torch.zeros(3, 1, 4, 4))
    assert found.output.shape == found.variance_logit.shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"super_resolution": {"factor": 2}},
            "backbone.in_channels: 1 is odd; give twice an image's channels, for the noisy and the enlarged image",
        ),
        (
            {"backbone": {"in_channels": 2, "out_channels": 4}, "super_resolution": {"factor": 2}},
            "backbone.out_channels: 4 channels, but 1 are denoised; give 1, or 2 to learn the variance of sampling steps",
        ),
        (
            {"backbone": PAIRED, "super_resolution": {"factor": 3}},
            "super_resolution.factor: 3 does not divide the 8 pixels of an image; give a divisor",
        ),
        ({"backbone": PAIRED, "super_resolution": {"factor": 1}}, "super_resolution.factor: found 1; give 2 or more"),
        (
            {"backbone": PAIRED, "super_resolution": {"factor": 2}, "first_stage": "kl-f8"},
            "super_resolution: found beside a first stage; leave one of the two out",
        ),
    ],
)
def test_a_denoiser_that_does_not_fit_its_super_resolution_is_refused(tiny_spec, parts, message):
    with pytest.raises(ValidationError) as error:
        tiny_spec(**parts)
    assert [f"{problem.field}: {problem.message}" for problem in format_errors(error.value)] == [message]


def test_a_specification_with_super_resolution_comes_back_equal_from_its_dump(tiny_spec):
    spec = tiny_spec(backbone=PAIRED, super_resolution={"factor": 2, "filter": "bilinear"})
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
