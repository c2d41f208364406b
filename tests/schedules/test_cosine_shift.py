"""The cosine schedule shifted to the size of the image."""

import math

import pytest
import torch

from etsdm.registry import schedules
from etsdm.schedules import Cosine, CosineContinuous, CosineShift, CosineShiftContinuous, CosineShiftSimpleContinuous

T = torch.arange(1000)


@pytest.mark.parametrize("size", [32, 256])
def test_snr_is_that_of_cosine_times_the_square_of_64_over_the_size(size):
    torch.testing.assert_close(CosineShift(image_size=size).snr(T), Cosine().snr(T) * (64 / size) ** 2, rtol=1e-13, atol=0)


def test_larger_images_get_more_noise():
    shift = CosineShift().log_snr(T) - Cosine().log_snr(T)
    # 2 log(64/256) = -2.772589, with its sign.
    torch.testing.assert_close(shift, torch.full_like(shift, -2.772589), rtol=0, atol=5e-7)
    assert (CosineShift().sigma(T) > Cosine().sigma(T)).all()


def test_at_64_pixels_it_is_cosine():
    torch.testing.assert_close(CosineShift(image_size=64).alpha_bar(T), Cosine().alpha_bar(T), rtol=1e-13, atol=0)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(CosineShiftContinuous(image_size=64).sigma(t), CosineContinuous().sigma(t), rtol=1e-14, atol=0)


def test_without_offset_it_is_the_tangent_of_simple_diffusion():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    expected = -2 * torch.log(torch.tan(math.pi * t / 2)) + 2 * math.log(64 / 256)
    torch.testing.assert_close(CosineShiftSimpleContinuous().log_snr(t), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(CosineShiftContinuous(s=0).log_snr(t), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(schedules.create("cosine-shift-simple").log_snr(1000 * t - 1), expected, rtol=0, atol=1e-9)


def test_a_bound_is_reached_at_both_ends_before_the_shift():
    bounded = CosineShiftSimpleContinuous(image_size=256, log_snr_bound=15.0)
    shift = 2 * math.log(64 / 256)
    assert bounded.log_snr(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([15 + shift, -15 + shift], rel=1e-13)
    assert bounded.alpha(1.0) > 0


@pytest.mark.parametrize("kind", [CosineShift, CosineShiftContinuous, CosineShiftSimpleContinuous])
def test_an_image_without_pixels_is_refused(kind):
    with pytest.raises(ValueError, match="image_size"):
        kind(image_size=0)


def test_a_bound_is_positive():
    with pytest.raises(ValueError, match="log_snr_bound"):
        CosineShiftSimpleContinuous(log_snr_bound=0)
