"""Condition maps, time inputs and schedules of numbers, lists, arrays and integers."""

import numpy as np
import pytest
import torch

from etsdm.errors import PartError
from etsdm.registry import condition_maps, schedules, time_inputs
from etsdm.schedules import Linear

NOT_TIMES = ["5", None, {"t": 5}, ["a"], object()]


def made(name):
    return condition_maps.create(name, **({"maps": ["e-tsdm", "inverse"]} if name == "compose" else {}))


@pytest.mark.parametrize("name", [name for name in condition_maps.names() if name not in ("shared-intervals", "adaptive")])
def test_a_map_takes_numbers_lists_and_arrays(name):
    f = made(name)
    expected = f(torch.tensor([5.0, 105.0], dtype=torch.float64), Linear())
    for t in ([5, 105], [5.0, 105.0], np.array([5.0, 105.0]), torch.tensor([5, 105])):
        torch.testing.assert_close(f(t, Linear()).double(), expected, rtol=0, atol=0)
    for number in (5, 5.0, np.float64(5), np.float32(5), np.int64(5)):
        assert f(number, Linear()).double().item() == expected[0].item()
    assert f(np.array([5, 105], dtype=np.float32), Linear()).dtype == torch.float32
    assert f(5, Linear()).dtype == torch.float64
    for value in NOT_TIMES:
        with pytest.raises(PartError, match=r"^t: found .*; give a number, an array or a tensor of times$"):
            f(value, Linear())


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_integers_stay_integers_where_conditions_are(dtype):
    t = torch.tensor([5, 25, 105], dtype=dtype)
    for name, fields, expected in (
        ("identity", {}, [5, 25, 105]),
        ("e-tsdm", {}, [0, 20, 105]),
        ("constant", {"value": 7.0}, [7, 7, 7]),
        ("compose", {"maps": ["identity", "e-tsdm"]}, [0, 20, 105]),
    ):
        found = condition_maps.create(name, **fields)(t)
        assert (found.dtype, found.tolist()) == (dtype, expected)
    for f in (condition_maps.create("e-tsdm", n=8), condition_maps.create("inverse")):
        assert f(t, Linear()).dtype == torch.float64


@pytest.mark.parametrize("name", [name for name in time_inputs.names() if name != "auto"])
def test_a_time_input_takes_them_too(name):
    convert = time_inputs.create(name)
    expected = convert(torch.tensor([5.0, 105.0], dtype=torch.float64))
    for value in ([5, 105], np.array([5.0, 105.0]), np.array([5, 105]), torch.tensor([5, 105])):
        assert torch.equal(convert(value), expected)
    assert convert(5).item() == expected[0].item()


@pytest.mark.parametrize("name", ["linear", "flow", "edm", "zero-terminal-snr"])
def test_a_schedule_takes_them_too(name):
    schedule = schedules.create(name)
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    for method in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.beta, schedule.t_of_log_snr):
        for value in ([0.25, 0.5], (0.25, 0.5), np.array([0.25, 0.5])):
            assert torch.equal(method(value), method(t))
        assert method(np.float32(0.5)).item() == method(0.5).item() == method(t)[1].item()
    for value in NOT_TIMES:
        with pytest.raises(PartError, match=r"^t: found"):
            schedule.alpha(value)
    with pytest.raises(PartError, match=r"^t: 1000000000 is outside"):
        schedule.sigma(np.array([0.5, 1e9]))
