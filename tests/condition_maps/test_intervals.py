import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.func import jvp

from etsdm.condition_maps import ETSDM, SharedIntervals
from etsdm.registry import FieldProblem, format_errors
from etsdm.schedules import Linear, LinearContinuous

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


def test_one_sub_interval_has_one_condition_below_t_tilde():
    assert ETSDM(n=1)(torch.tensor([0, 50, 99, 100])).tolist() == [0, 0, 0, 100]


def test_integer_times_become_float64_where_conditions_are_no_integers():
    assert ETSDM(n=7)(torch.tensor([3, 4])).dtype == torch.float64


@dtypes
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shape_and_dtype_are_those_of_the_times(dtype, shape):
    found = ETSDM()(torch.ones(shape, dtype=dtype))
    assert found.shape == shape
    assert found.dtype == dtype


def test_a_t_tilde_beyond_the_horizon_is_a_problem_of_that_field():
    assert ETSDM(t_tilde=1000).check(Linear()) == []
    message = "100 is beyond the schedule's horizon; give {} or less"
    assert ETSDM().check(Linear(timesteps=50)) == [FieldProblem(("t_tilde",), message.format(50))]
    assert ETSDM().check(LinearContinuous()) == [FieldProblem(("t_tilde",), message.format(1))]
    assert ETSDM(t_tilde=0.1).check(LinearContinuous()) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 0, "found 0; give a value above 0"),
        ("n", -1, "found -1; give a value above 0"),
        ("n", 2.5, "found 2.5; give an integer"),
        ("t_tilde", 0, "found 0; give a value above 0"),
        ("t_tilde", float("nan"), "found nan; give a finite number"),
        ("share", "level", "found 'level'; give 'condition' or 'both'"),
    ],
)
def test_no_sub_intervals_and_no_length_are_refused(field, value, message):
    with pytest.raises(ValidationError) as error:
        ETSDM(**{field: value})
    assert format_errors(error.value) == [FieldProblem((field,), message)]


@given(MAPS, TIMES)
def test_the_shared_interval_is_the_sub_interval_that_holds_the_time(map_, t):
    t = torch.tensor(t, dtype=torch.float64)
    low, high = (end.item() for end in map_.shared_interval(t, Linear()))
    if t >= map_.t_tilde:
        assert low == high == t
    else:
        assert high - low == pytest.approx(map_.t_tilde / map_.n, rel=1e-9, abs=1e-12)
        assert low == map_(t)
        assert map_(torch.tensor([low, (low + high) / 2], dtype=torch.float64)).tolist() == [low, low]
        assert map_(torch.tensor(high, dtype=torch.float64)) == high


@dtypes
def test_shared_intervals_and_conditions_agree_within_a_rounding_of_an_edge(dtype):
    t = just_below(20.0, dtype)
    low, high = ETSDM().shared_interval(t, Linear())
    assert (low, high) == (20, 40)
    assert low.dtype == torch.float64


def test_noise_levels_are_shared_only_with_share_both():
    t = torch.tensor([0.0, 19.0, 45.0, 99.0, 100.0, 500.0], dtype=torch.float64)
    assert ETSDM().noising_time(t, Linear()) is t
    assert ETSDM(share="both").noising_time(t, Linear()).tolist() == [0, 0, 40, 80, 100, 500]


def test_shared_noise_levels_have_noise():
    # sigma(0) is 0.01 at the first timestep of DDPM's schedule and 0 at time 0 of its continuous form.
    assert ETSDM(share="both").check(Linear()) == []
    message = "'both' would train the first sub-interval on images without noise, at t = 0; give shared-intervals a floor"
    assert ETSDM(t_tilde=0.1, share="both").check(LinearContinuous()) == [FieldProblem(("share",), message)]


@dtypes
def test_the_derivative_in_time_is_zero_inside_and_one_outside(dtype):
    map_ = ETSDM()  # whose tables are made under the transform, and used after it
    t = torch.tensor([0.0, 30.0, 99.0, 100.0, 700.0], dtype=dtype)
    value, slope = jvp(map_, (t,), (torch.ones_like(t),))
    assert value.tolist() == [0, 20, 80, 100, 700]
    assert slope.tolist() == [0, 0, 0, 1, 1]
    assert map_(t).tolist() == copy.deepcopy(map_)(t).tolist() == pickle.loads(pickle.dumps(map_))(t).tolist() == value.tolist()


@pytest.mark.parametrize("map_", [ETSDM(), SharedIntervals(edges=(10, 40, 90), representative="mid")], ids=repr)
def test_a_compiled_graph_holds_the_whole_map(map_):
    t = torch.tensor([5.0, 39.0, 95.0, 400.0])
    compiled = torch.compile(lambda t: map_(t), fullgraph=True, backend="eager")(t)  # also before any call outside a graph
    assert torch.equal(compiled, map_(t))


def test_times_in_half_precision_keep_their_dtype():
    t = torch.tensor([5.0, 50.0, 128.0], dtype=torch.bfloat16)
    assert ETSDM()(t).dtype == torch.bfloat16
    assert ETSDM()(t).tolist() == [0, 40, 128]
