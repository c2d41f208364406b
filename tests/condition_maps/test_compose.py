import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.condition_maps import ETSDM, Compose, Constant, Identity, Inverse, InverseSigmoid, LogSNR, SharedIntervals, Sigma
from etsdm.registry import FieldProblem, condition_maps, format_errors
from etsdm.schedules import Linear, LinearContinuous

TIMESTEPS = torch.arange(1000, dtype=torch.float64)


def explained(maps):
    with pytest.raises(ValidationError) as error:
        Compose(maps=maps)
    return format_errors(error.value)


@pytest.mark.parametrize("maps", [(ETSDM(), Inverse()), (Inverse(), ETSDM()), (ETSDM(n=50), Identity()), (Sigma(),)], ids=repr)
def test_maps_are_applied_from_left_to_right(maps):
    expected = TIMESTEPS
    for map_ in maps:
        expected = map_(expected, Linear())
    assert torch.equal(Compose(maps=maps)(TIMESTEPS, Linear()), expected)


def test_sub_intervals_after_a_remap_are_in_its_unit():
    # 1/t of timesteps 1..4 in sub-intervals of a quarter: 1, 1/2, 1/3, 1/4.
    map_ = Compose(maps=(Inverse(scale="none"), SharedIntervals(edges=(0, 0.25, 0.5, 0.75, 1))))
    assert map_(torch.arange(5), Linear()).tolist() == [1, 0.5, 0.25, 0.25, 0]


def test_a_remap_after_a_remap_is_refused():
    message = "'log-snr' takes a time, and 'inverse' before it gives another unit; leave out one of them"
    assert explained((Inverse(), LogSNR())) == [FieldProblem(("maps", 1), message)]
    assert explained((Identity(), Inverse(), ETSDM(), LogSNR())) == [FieldProblem(("maps", 3), message)]
    nested = Compose(maps=(ETSDM(), LogSNR()))
    assert explained((Inverse(), nested))[0].location == ("maps", 1)


@pytest.mark.parametrize(
    ("maps", "i", "names"),
    [
        ((ETSDM(n=50), ETSDM(n=5)), 1, ("e-tsdm", "e-tsdm")),
        ((ETSDM(), Inverse(), Constant()), 2, ("constant", "e-tsdm")),
        ((LogSNR(), SharedIntervals(edges=(1, 2)), Identity(), Compose(maps=(ETSDM(), Identity()))), 3, ("compose", "shared-intervals")),
    ],
)
def test_a_second_map_that_shares_conditions_is_refused_when_the_map_is_made(maps, i, names):
    message = "'{}' shares conditions, as '{}' before it does; leave out one of them"
    assert explained(maps) == [FieldProblem(("maps", i), message.format(*names))]


def test_no_maps_are_refused():
    assert explained(()) == [FieldProblem(("maps",), "found (); give 1 or more entries")]


def test_a_remap_needs_a_schedule():
    with pytest.raises(ValueError, match=r"^schedule: .*'inverse'.*; give the schedule of t$"):
        Compose(maps=(ETSDM(), Inverse()))(torch.zeros(1))


def test_injective_maps_have_an_inverse():
    map_ = Compose(maps=(Identity(), LogSNR(), Identity()))
    assert map_.is_invertible
    assert torch.allclose(map_.inverse(map_(TIMESTEPS, Linear()), Linear()), TIMESTEPS, rtol=0, atol=1e-9)
    assert not Compose(maps=(LogSNR(), ETSDM())).is_invertible


COMPOSED = [
    Compose(maps=(ETSDM(),)),
    Compose(maps=(ETSDM(n=7), LogSNR())),
    Compose(maps=(LogSNR(), ETSDM(t_tilde=600, n=6))),  # decreasing: the noisiest times share
    Compose(maps=(Inverse(), SharedIntervals(edges=(1, 5, 50, 900)))),
    Compose(maps=(Identity(), InverseSigmoid(), ETSDM(t_tilde=300, n=3), Identity())),
    Compose(maps=(Sigma(), Constant(value=3))),
    Compose(maps=(Identity(), Sigma())),
]


@pytest.mark.parametrize("map_", COMPOSED, ids=repr)
def test_the_shared_interval_holds_the_timesteps_of_one_condition(map_):
    t = TIMESTEPS
    condition = map_(t, Linear())
    low, high = (end[:, None] for end in map_.shared_interval(t, Linear()))
    shared = condition[:, None] == condition
    strictly = (t > low + 1e-9) & (t < high - 1e-9)
    roughly = (t >= low - 1e-9) & (t <= high + 1e-9)
    assert not (strictly & ~shared).any()
    assert not (shared & ~roughly).any()


@given(st.floats(0.0005, 0.9995))
def test_the_shared_interval_holds_the_continuous_times_of_one_condition(t):
    schedule = LinearContinuous()
    map_ = Compose(maps=(LogSNR(scale="none"), SharedIntervals(edges=(-8, -3, 0, 2))))
    t = torch.tensor(t, dtype=torch.float64)
    low, high = map_.shared_interval(t, schedule)
    if -8 <= schedule.log_snr(t) < 2 - 1e-9:
        inside = low + (high - low) * torch.tensor([1e-6, 0.5, 1 - 1e-6], dtype=torch.float64)
        assert map_(inside, schedule).unique().tolist() == [map_(t, schedule).item()]
        edges = (-8, -3, 0, 2)
        assert schedule.log_snr(high).item() == pytest.approx(max(e for e in edges if e <= schedule.log_snr(t) + 1e-9), abs=1e-9)
    elif schedule.log_snr(t) >= 2:
        assert torch.allclose(torch.stack([low, high]), t, rtol=1e-9)


def test_a_clipped_end_joins_the_sub_interval_that_holds_its_condition():
    inverse = Inverse(floor=0.1, scale="none")  # 1/t in [1, 10]; 10 for t up to 0.1
    t = torch.tensor([0.05, 0.15, 0.5], dtype=torch.float64)
    with_end = Compose(maps=(inverse, SharedIntervals(edges=(4, 11))))
    assert [end.tolist() for end in with_end.shared_interval(t, LinearContinuous())] == [[0, 0, 0.5], [0.25, 0.25, 0.5]]
    without = Compose(maps=(inverse, SharedIntervals(edges=(4, 10))))
    assert [end.tolist() for end in without.shared_interval(t, LinearContinuous())] == [[0, 0.1, 0.5], [0.1, 0.25, 0.5]]


def test_noising_times_are_times_whatever_the_unit_of_the_edges():
    t = torch.tensor([5.0, 45.0, 500.0], dtype=torch.float64)
    before = Compose(maps=(ETSDM(share="both"), LogSNR()))
    assert before.noising_time(t, Linear()).tolist() == [0, 40, 500]
    among_identities = Compose(maps=(Identity(), ETSDM(share="both"), Identity()))
    assert among_identities.noising_time(t, Linear()).tolist() == [0, 40, 500]
    # 1/t in [1/50, 1/20) is shared at 1/50: the level of timestep 50, whose index is 49.
    after = Compose(maps=(Inverse(scale="none"), SharedIntervals(edges=(0.02, 0.05), share="both")))
    assert after.noising_time(t, Linear()).tolist() == pytest.approx([5, 49, 500], abs=1e-12)
    assert Compose(maps=(Inverse(), ETSDM())).noising_time(t, Linear()) is t


def test_problems_name_the_map():
    beyond = "the schedule's horizon; give 1000 or less"
    assert Compose(maps=(Identity(), ETSDM(t_tilde=2000))).check(Linear()) == [
        FieldProblem(("maps", 1, "t_tilde"), f"2000 is beyond {beyond}")
    ]
    found = Compose(maps=(Inverse(scale="none"), ETSDM())).check(Linear())
    assert found == [FieldProblem(("maps", 1, "t_tilde"), "100 is beyond the largest value of 'inverse'; give 1 or less")]
    found = Compose(maps=(LogSNR(scale="none"), SharedIntervals(edges=(-30, 0)))).check(LinearContinuous())
    assert found == [FieldProblem(("maps", 1, "edges"), "-30 is before the smallest value of 'log-snr'; give -10.05 or more")]
    assert Compose(maps=(Inverse(), ETSDM(t_tilde=1000))).check(Linear()) == []


def test_it_comes_back_equal_from_its_dump():
    map_ = Compose(maps=(LogSNR(bound=10), ETSDM(n=2)))
    assert condition_maps.parse(map_.model_dump()) == map_
    assert condition_maps.parse({"type": "compose", "maps": ["identity", {"type": "e-tsdm", "n": 2}]}) == Compose(
        maps=(Identity(), ETSDM(n=2))
    )
