import math
from itertools import pairwise

import mpmath
import pytest
import torch

from etsdm.schedules import Cosine


def test_alpha_bar_follows_the_squared_cosine_up_to_the_clipped_beta():
    def h(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = torch.tensor([h((i + 1) / 1000) / h(0) for i in range(999)], dtype=torch.float64)
    torch.testing.assert_close(Cosine().alpha_bar(torch.arange(999)), expected, rtol=1e-9, atol=1e-14)


def test_one_beta_is_clipped():
    betas = Cosine().betas
    assert (betas == 0.999).nonzero().tolist() == [[999]]
    assert betas[0].item() == pytest.approx(4.1284e-5, abs=5e-10)  # guided-diffusion: 1 - 0.9999587157752


def test_sigma_keeps_its_digits_at_the_first_timestep():
    with mpmath.workdps(50):
        s = mpmath.mpf(0.008)
        theta = [(t + s) / (1 + s) * mpmath.pi / 2 for t in (mpmath.mpf(0), mpmath.mpf(1) / 1000)]
        expected = float(mpmath.sqrt(1 - (mpmath.cos(theta[1]) / mpmath.cos(theta[0])) ** 2))
    assert Cosine().sigma(0).item() == pytest.approx(expected, rel=1e-14)
    assert expected == pytest.approx(0.006425, abs=5e-7)


def test_the_offset_and_the_largest_beta_can_be_set():
    plain = Cosine(timesteps=2, s=0, max_beta=0.75)
    # cos^2(pi/4) = 1/2; the last beta would be 1 and is 3/4.
    torch.testing.assert_close(plain.alpha_bar(torch.arange(2)), torch.tensor([0.5, 0.125], dtype=torch.float64))


def test_betas_keep_their_digits():
    with mpmath.workdps(50):
        s, half = mpmath.mpf(0.008), mpmath.pi / 2
        h = [mpmath.cos((mpmath.mpf(i) / 1000 + s) / (1 + s) * half) ** 2 for i in range(1001)]
        expected = torch.tensor([float(1 - after / before) for before, after in pairwise(h)], dtype=torch.float64)
    torch.testing.assert_close(Cosine().betas[:-1], expected[:-1], rtol=2e-14, atol=0)


def test_signal_left_at_the_end():
    assert Cosine().alpha_bar(999).item() == pytest.approx(2.4288e-9, rel=1e-4)


@pytest.mark.parametrize(("field", "value"), [("s", -0.1), ("max_beta", 1), ("max_beta", 0)])
def test_a_wrong_field_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Cosine(**{field: value})
