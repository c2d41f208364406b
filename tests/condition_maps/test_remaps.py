import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import logit
from torch.func import jvp

from etsdm.condition_maps import Inverse, InverseSigmoid, LogSNR, Sigma
from etsdm.registry import FieldProblem, condition_maps, format_errors
from etsdm.schedules import EDM, Cosine, CosineContinuous, Flow, Linear, LinearContinuous, ZeroTerminal

SCHEDULES = [Linear(), Linear(timesteps=10), Cosine(), ZeroTerminal(), LinearContinuous(), CosineContinuous(), Flow(), EDM()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.type_name)
every_map = pytest.mark.parametrize("kind", [Inverse, InverseSigmoid, Sigma, LogSNR], ids=lambda kind: kind.type_name)


def f(map_, t, schedule):
    return map_(torch.tensor(t, dtype=torch.float64), schedule).tolist()


def integral(t):  # of the linear beta, 0.1 + 19.9 t, from 0
    return 0.1 * t + 9.95 * t * t


def test_the_inverse_of_a_timestep_counts_from_one():
    assert f(Inverse(scale="none"), [0.0, 1.0, 9.0, 999.0], Linear()) == [1, 0.5, 0.1, 0.001]


def test_the_inverse_of_a_continuous_time_has_a_floor():
    assert f(Inverse(scale="none"), [0.0, 5e-4, 1e-3, 0.5, 1.0], LinearContinuous()) == [1000, 1000, 1000, 2, 1]
    assert f(Inverse(scale="none", floor=0.25), [0.1, 0.5], LinearContinuous()) == [4, 2]


def test_the_inverse_sigmoid_is_that_of_scipy():
    t = torch.arange(1000, dtype=torch.float64)
    assert InverseSigmoid(scale="none")(t, Linear()).numpy() == pytest.approx(logit((t.numpy() + 1) / 1001), rel=1e-13, abs=1e-13)
    t = [0.0, 1e-5, 0.3, 0.99999, 1.0]
    expected = logit([1e-5, 1e-5, 0.3, 1 - 1e-5, 1 - 1e-5])
    assert f(InverseSigmoid(scale="none"), t, LinearContinuous()) == pytest.approx(expected, rel=1e-12)


def test_the_inverse_sigmoid_is_odd_about_the_middle():
    found = InverseSigmoid(scale="none")(torch.arange(1000), Linear())
    assert torch.allclose(found, -found.flip(0), rtol=0, atol=1e-13)


def test_noise_levels_are_those_of_the_closed_form():
    t = [0.01, 0.3, 1.0]
    sigma = [math.sqrt(-math.expm1(-integral(s))) for s in t]
    assert f(Sigma(scale="none"), t, LinearContinuous()) == pytest.approx(sigma, rel=1e-13)
    assert f(LogSNR(scale="none"), t, LinearContinuous()) == pytest.approx([-math.log(math.expm1(integral(s))) for s in t], rel=1e-12)


def test_log_snr_is_clipped_at_its_bound():
    assert f(LogSNR(scale="none"), [0.0, 1.0], Flow()) == [20, -20]
    assert f(LogSNR(scale="none", bound=3.0), [0.1, 0.5, 0.9], Flow()) == pytest.approx([3, 0, -3], abs=1e-15)  # 2 log 9 = 4.4


@every_schedule
@every_map
def test_the_default_scale_takes_the_range_onto_the_horizon(kind, schedule):
    low, high = schedule.domain
    t = torch.linspace(low, high, 101, dtype=torch.float64)
    g, scaled = kind(scale="none")(t, schedule), kind()(t, schedule)
    assert sorted(kind().ends(schedule)) == [0, schedule.horizon]
    expected = schedule.horizon * (g - g.min()) / (g.max() - g.min())
    assert torch.allclose(scaled, expected, rtol=1e-12, atol=1e-12 * schedule.horizon)
    assert ((g.diff() <= 0).all() and (scaled.diff() <= 0).all()) or ((g.diff() >= 0).all() and (scaled.diff() >= 0).all())


def test_a_schedule_of_one_timestep_has_one_condition():
    assert f(Inverse(), [0.0], Linear(timesteps=1)) == [0]


@every_schedule
@every_map
@settings(max_examples=10)
@given(scale=st.sampled_from(["horizon", "none"]), shares=st.lists(st.floats(0.02, 0.98), min_size=5))
def test_the_inverse_gives_the_time_back(kind, schedule, scale, shares):
    map_, (low, high), shares = kind(scale=scale), schedule.domain, torch.tensor(shares, dtype=torch.float64)
    t = low + shares * (high - low)
    condition = map_(t, schedule)
    back = map_.inverse(condition, schedule)
    # Near a flat end neighbouring times have one condition in float64; the condition itself always comes back.
    assert torch.allclose(map_(back, schedule), condition, rtol=1e-11, atol=1e-11 * schedule.horizon)
    assert torch.allclose(back[shares < 0.9], t[shares < 0.9], rtol=1e-8, atol=0)


@every_map
def test_all_timesteps_come_back(kind):
    t = torch.arange(1000, dtype=torch.float64)
    assert torch.allclose(kind().inverse(kind()(t, Linear()), Linear()), t, rtol=0, atol=1e-8)


@every_map
def test_conditions_out_of_range_belong_to_the_ends(kind):
    first, last = kind().ends(Linear())
    beyond = torch.tensor([first + 2 * (first - last), last + 2 * (last - first)])
    assert kind().inverse(beyond, Linear()).tolist() == pytest.approx([0, 999], abs=1e-8)


@every_map
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_those_of_the_times(kind, dtype):
    t = torch.tensor([[0.0, 1.5], [40.0, 999.0]], dtype=dtype)
    found = kind()(t, Linear())
    assert found.dtype == dtype
    assert torch.equal(found, kind()(t.double(), Linear()).to(dtype))
    assert kind()(torch.tensor([3, 4]), Linear()).dtype == torch.float64
    assert kind()(torch.empty(0), Linear()).shape == (0,)


@every_map
def test_a_schedule_is_needed(kind):
    message = f"^schedule: found none, .*'{kind.type_name}'.*; give the schedule of t$"
    with pytest.raises(ValueError, match=message):
        kind()(torch.tensor([1.0]))


@every_map
def test_a_time_is_alone_with_its_condition(kind):
    t = torch.tensor([0.0, 0.5, 400.0, 999.0], dtype=torch.float64)
    low, high = kind().shared_interval(t, Linear())
    assert torch.equal(low, t)
    assert torch.equal(high, t)
    assert kind().noising_time(t, Linear()) is t


@pytest.mark.parametrize(
    ("map_", "schedule", "t", "expected"),
    [
        (Inverse(), LinearContinuous(), 5e-4, (0, 1e-3)),
        (Inverse(), LinearContinuous(), 2e-3, (2e-3, 2e-3)),
        (InverseSigmoid(margin=0.1), LinearContinuous(), 0.0, (0, 0.1)),
        (InverseSigmoid(margin=0.1), LinearContinuous(), 0.95, (0.9, 1)),
        (LogSNR(), Flow(), 1e-5, (0, 1 / (1 + math.exp(10)))),  # (1 - t) / t = exp(20 / 2)
        (LogSNR(), Flow(), 1.0, (1 / (1 + math.exp(-10)), 1)),
    ],
    ids=str,
)
def test_times_beyond_a_clipped_end_share_its_condition(map_, schedule, t, expected):
    low, high = map_.shared_interval(torch.tensor([t], dtype=torch.float64), schedule)
    assert (low.item(), high.item()) == pytest.approx(expected, rel=1e-12)
    inside = torch.linspace(low.item(), high.item(), 7, dtype=torch.float64)
    assert map_(inside, schedule).tolist() == pytest.approx([map_(torch.tensor(t, dtype=torch.float64), schedule).item()] * 7, rel=1e-12)


@every_map
@settings(max_examples=25)
@given(t=st.floats(0.01, 0.95))
def test_the_derivative_of_the_noise_follows_the_chain_rule(kind, t):
    # Data N(0, 1) have eps*(x, t) = sigma(t) x. In c = f(t) its slope is that in t over f'(t), whatever the bijection.
    schedule, map_ = LinearContinuous(), kind()
    sigma2 = -math.expm1(-integral(t))
    per_time = (0.1 + 19.9 * t) * (1 - sigma2) / (2 * math.sqrt(sigma2))
    t = torch.tensor(t, dtype=torch.float64)
    c, slope = jvp(lambda t: map_(t, schedule), (t,), (torch.ones_like(t),))
    # The step is small in time, so that the curvature of f does not matter.
    step = 1e-5 * t * slope.abs()
    around = schedule.sigma(map_.inverse(torch.stack([c - step, c + step]), schedule))
    per_condition = (around[1] - around[0]) / (2 * step)
    assert per_condition.item() == pytest.approx(per_time / slope.item(), rel=1e-5)


def test_the_slope_in_sigma_is_finite_where_that_in_time_is_not():
    # Data N(0, 1) again, eps* = sigma(t) x: d eps*/dt = sqrt(beta(0) / t) / 2 x to first order, 1.6e5 at t = 1e-12.
    t = torch.tensor(1e-12, dtype=torch.float64)
    _, slope = jvp(lambda t: Sigma(scale="none")(t, LinearContinuous()), (t,), (torch.ones_like(t),))
    per_time = math.sqrt(0.1 / 1e-12) / 2
    assert per_time > 1e5
    assert per_time / slope.item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("inverse", "floor", 0, "found 0; give a value above 0"),
        ("inverse", "floor", 1, "found 1; give a value below 1"),
        ("inverse-sigmoid", "margin", 0.5, "found 0.5; give a value below 0.5"),
        ("log-snr", "bound", -1, "found -1; give a value above 0"),
        ("sigma", "scale", "unit", "found 'unit'; give 'horizon' or 'none'"),
    ],
)
def test_wrong_fields_are_named_with_the_mend(name, field, value, message):
    with pytest.raises(ValidationError) as error:
        condition_maps[name](**{field: value})
    assert format_errors(error.value) == [FieldProblem((field,), message)]
