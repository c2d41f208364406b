import pytest
import torch

from etsdm.condition_maps import Identity
from etsdm.schedules import Linear, LinearContinuous


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_condition_is_the_true_time(dtype):
    t = torch.tensor([[0.0, 19.5], [100.0, 999.0]], dtype=dtype)
    assert torch.equal(Identity()(t), t)
    assert Identity()(t).dtype == dtype


def test_integer_times_become_float64():
    assert Identity()(torch.tensor([3, 4])).dtype == torch.int64


def test_it_fits_every_schedule_and_is_its_own_inverse():
    t = torch.tensor([0.0, 0.25, 1.0])
    assert Identity().check(LinearContinuous()) == []
    assert torch.equal(Identity().inverse(t, LinearContinuous()), t.double())
    assert Identity().ends(Linear()) == (0, 999)


def test_every_time_is_alone_with_its_condition_and_keeps_its_level():
    t = torch.tensor([3.0, 4.5])
    assert [end.tolist() for end in Identity().shared_interval(t, Linear())] == [[3, 4.5], [3, 4.5]]
    assert Identity().noising_time(t, Linear()) is t
