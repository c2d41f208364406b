import pytest
import torch

from etsdm.condition_maps import Constant
from etsdm.schedules import Linear, LinearContinuous


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_time_gets_the_same_condition(dtype):
    t = torch.tensor([[0.0, 19.5], [100.0, 999.0]], dtype=dtype)
    found = Constant(value=7.5)(t)
    assert found.tolist() == [[7.5, 7.5], [7.5, 7.5]]
    assert found.dtype == dtype


def test_integer_times_become_float64():
    assert Constant(value=0.5)(torch.tensor([3, 4])).tolist() == [0.5, 0.5]
    assert Constant()(torch.tensor([3, 4])).dtype == torch.int64
    assert Constant(value=0.5)(torch.tensor([3, 4])).dtype == torch.float64


@pytest.mark.parametrize(("schedule", "last"), [(Linear(), 999), (LinearContinuous(), 1)])
def test_all_times_of_the_schedule_share_it(schedule, last):
    low, high = Constant().shared_interval(torch.tensor([0.0, 0.5]), schedule)
    assert (low.tolist(), high.tolist()) == ([0, 0], [last, last])
    assert low.dtype == high.dtype == torch.float64


def test_no_time_follows_from_it():
    message = "^map: 'constant' .*has no inverse; give identity or a remap$"
    with pytest.raises(ValueError, match=message):
        Constant().inverse(torch.zeros(1), Linear())
