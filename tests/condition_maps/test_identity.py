import pytest
import torch

from etsdm.condition_maps import Identity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_is_told_the_true_time(dtype):
    t = torch.tensor([[0.0, 19.5], [100.0, 999.0]], dtype=dtype)
    assert torch.equal(Identity()(t), t)
    assert Identity()(t).dtype == dtype


def test_integer_times_become_float64():
    assert Identity()(torch.tensor([3, 4])).dtype == torch.float64


def test_it_fits_every_horizon():
    assert Identity().problems(1) == []
