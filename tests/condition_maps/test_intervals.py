import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.condition_maps import ETSDM
from etsdm.registry import Problem

MAPS = st.builds(ETSDM, t_tilde=st.floats(0.01, 1000), n=st.integers(1, 200))
TIMES = st.floats(0, 1000)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def f(map_, t, dtype=torch.float64):
    return map_(torch.tensor(t, dtype=dtype)).item()


def just_below(value, dtype):
    value = torch.tensor(value, dtype=dtype)
    return torch.nextafter(value, torch.zeros_like(value))


@dtypes
def test_twenty_timesteps_share_one_condition_below_one_hundred(dtype):
    # The paper's setting, t_tilde = 100 and n = 5: [0, 19] -> 0, ..., [80, 99] -> 80.
    t = torch.arange(1000, dtype=dtype)
    expected = [20 * (i // 20) if i < 100 else i for i in range(1000)]
    assert ETSDM()(t).tolist() == expected


def test_the_condition_jumps_from_eighty_to_one_hundred():
    assert ETSDM()(torch.tensor([99.0, 100.0])).tolist() == [80.0, 100.0]


@dtypes
def test_times_between_the_timesteps_belong_to_their_sub_interval(dtype):
    t = torch.tensor([0.5, 19.75, 20.25, 99.75, 100.25], dtype=dtype)
    assert ETSDM()(t).tolist() == [0.0, 0.0, 20.0, 80.0, 100.25]


@dtypes
@pytest.mark.parametrize("edge", [20.0, 40.0, 60.0, 80.0])
def test_a_time_one_rounding_below_an_edge_belongs_to_the_edge(dtype, edge):
    assert ETSDM()(just_below(edge, dtype)).item() == edge
    assert ETSDM()(torch.tensor(edge - 0.01, dtype=dtype)).item() == edge - 20


@dtypes
def test_a_time_one_rounding_below_the_last_edge_is_its_own_condition(dtype):
    t = just_below(100.0, dtype)
    assert ETSDM()(t) == t


@dtypes
@pytest.mark.parametrize("i", range(5))
def test_edges_of_a_continuous_schedule_survive_their_roundings(dtype, i):
    # t_tilde = 0.1 of [0, 1]: 0.06 may come as 0.06, 3 * 0.02, 1 - 0.94 or 0.3 / 5, which differ in the last digits.
    shared = ETSDM(t_tilde=0.1, n=5)
    for edge in (0.02 * i, i / 50, 1 - (1 - 0.02 * i), 0.1 * i / 5):
        assert f(shared, edge, dtype) == torch.tensor(i * 0.1 / 5, dtype=dtype).item()
    assert f(shared, 0.02 * i + 0.01, dtype) == f(shared, 0.02 * i, dtype)


@given(MAPS, TIMES)
def test_it_is_idempotent(map_, t):
    once = f(map_, t)
    assert f(map_, once) == once


@given(MAPS, TIMES, TIMES)
def test_it_is_monotone(map_, t, u):
    assert f(map_, min(t, u)) <= f(map_, max(t, u))


@given(MAPS, TIMES)
def test_the_condition_is_the_time_or_an_earlier_one(map_, t):
    shift = t - f(map_, t)
    rounding = 1e-15 * map_.t_tilde  # of a time that counts as the edge above it
    assert -rounding <= shift < map_.t_tilde / map_.n + rounding


@given(MAPS, TIMES)
def test_it_is_the_identity_from_t_tilde_on(map_, t):
    later = map_.t_tilde + t
    assert f(map_, later) == later


@given(st.integers(1, 100), st.sampled_from([0.1, 99.0, 100.0, 1000.0]))
def test_there_are_exactly_n_conditions_below_t_tilde(n, t_tilde):
    map_ = ETSDM(t_tilde=t_tilde, n=n)
    middles = (torch.arange(n, dtype=torch.float64) + 0.5) * t_tilde / n
    fine = torch.arange(3 * n, dtype=torch.float64) / (3 * n) * t_tilde
    assert map_(middles).unique().tolist() == map_(fine).unique().tolist() == list(map_.edges[:-1])


def test_sub_intervals_need_not_be_whole_numbers_of_timesteps():
    # Edges at 100 i / 7 = 0, 14.3, 28.6, 42.9, 57.1, 71.4, 85.7, 100; integer division would make bins of 14 timesteps, 8 of them.
    t = torch.arange(101)
    expected = torch.tensor([100 * (7 * i // 100) / 7 for i in range(101)], dtype=torch.float64)
    assert torch.equal(ETSDM(n=7)(t), expected)


def test_as_many_sub_intervals_as_timesteps_leave_the_timesteps_as_they_are():
    t = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(ETSDM(t_tilde=100, n=100)(t), t)
    assert torch.equal(ETSDM(t_tilde=1000, n=1000)(t), t)


def test_one_sub_interval_tells_the_network_nothing_below_t_tilde():
    assert ETSDM(n=1)(torch.tensor([0, 50, 99, 100])).tolist() == [0, 0, 0, 100]


def test_integer_times_become_float64():
    assert ETSDM()(torch.tensor([3, 4])).dtype == torch.float64


@dtypes
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shape_and_dtype_are_those_of_the_times(dtype, shape):
    found = ETSDM()(torch.ones(shape, dtype=dtype))
    assert found.shape == shape
    assert found.dtype == dtype


def test_a_t_tilde_beyond_the_horizon_is_a_problem_of_that_field():
    assert ETSDM(t_tilde=1000).problems(1000) == []
    assert ETSDM().problems(50) == [Problem(("t_tilde",), "100 is beyond the schedule's horizon; give 50 or less")]


@pytest.mark.parametrize(("field", "value"), [("n", 0), ("n", -1), ("n", 2.5), ("t_tilde", 0), ("t_tilde", -3)])
def test_no_sub_intervals_and_no_length_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ETSDM(**{field: value})
