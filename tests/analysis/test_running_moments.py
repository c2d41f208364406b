import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.analysis.running_moments import Moments

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(sizes, st.integers(0, 2**31), st.floats(-1e6, 1e6))
def test_batches_give_the_moments_of_all_values(counts, seed, offset):
    values = np.random.default_rng(seed).normal(size=(3, sum(counts))) + offset
    moments = Moments(3)
    for part in np.split(values, np.cumsum(counts)[:-1], axis=1):
        moments.add(torch.from_numpy(part))
    n = values.shape[1]
    assert moments.n == n
    np.testing.assert_allclose(moments.mean, values.mean(1), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(moments.largest, values.max(1))
    if n > 1:
        np.testing.assert_allclose(moments.se, values.std(1, ddof=1) / math.sqrt(n), rtol=1e-6)
    else:
        assert moments.se.isnan().all()


def test_a_large_mean_does_not_drown_the_spread():
    # The variance of 0 and 1 is 1/2 wherever they are; a sum of squares would lose it beside 1e18.
    moments = Moments(1)
    for value in (1e9, 1e9 + 1):
        moments.add(torch.tensor([[value]], dtype=torch.float64))
    assert moments.se.item() == 0.5


def test_zeros_stay_exactly_zero():
    moments = Moments(2)
    for n in (3, 1, 5):
        moments.add(torch.zeros(2, n, dtype=torch.float64))
    assert moments.mean.tolist() == moments.se.tolist() == [0, 0]
