import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.denoisers.learned_variance import learned_log_variance

# Linear, t = 1: beta_1 = 1e-4 + 0.0199/999 and beta~_1 = beta_1 1e-4 / (1 - (1 - 1e-4)(1 - beta_1)), in closed form.
BETA = 1e-4 + 0.0199 / 999
POSTERIOR = BETA * 1e-4 / (1 - (1 - 1e-4) * (1 - BETA))
LOG_BETA, LOG_POSTERIOR = (torch.tensor(math.log(value), dtype=torch.float64) for value in (BETA, POSTERIOR))


def of(*logits, dtype=torch.float64):
    return learned_log_variance(torch.tensor(logits, dtype=dtype), LOG_BETA, LOG_POSTERIOR)


def test_the_ends_of_the_range_are_both_fixed_variances():
    # guided-diffusion: frac = (v + 1) / 2; -1 is the posterior variance, 1 is beta.
    assert of(-1, 1).exp().tolist() == pytest.approx([POSTERIOR, BETA], rel=1e-12)


def test_half_way_is_the_geometric_mean():
    assert of(0).exp().item() == pytest.approx(math.sqrt(POSTERIOR * BETA), rel=1e-12)


@given(st.floats(-30, 30))
def test_nothing_holds_the_variance_between_the_ends(logit):
    fraction = (logit + 1) / 2
    expected = fraction * math.log(BETA) + (1 - fraction) * math.log(POSTERIOR)
    assert of(logit).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("dtype", "found"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2])
def test_the_variance_is_in_single_precision_or_better(dtype, found):
    # -1 is exact in every precision.
    log_variance = of(-1, dtype=dtype)
    assert log_variance.dtype == found
    assert log_variance.item() == pytest.approx(math.log(POSTERIOR), rel=1e-7)


def test_each_image_has_the_range_of_its_own_time():
    log_beta, log_posterior = torch.tensor([[-1.0, -2.0], [-3.0, -6.0]], dtype=torch.float64).reshape(2, 2, 1, 1, 1)
    found = learned_log_variance(torch.zeros(2, 3, 4, 4), log_beta, log_posterior)
    assert found.shape == (2, 3, 4, 4)
    assert found[:, 0, 0, 0].tolist() == [-2, -4]
