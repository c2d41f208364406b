import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.condition_maps import ETSDM, SharedIntervals
from etsdm.registry import FieldProblem, condition_maps, format_errors
from etsdm.schedules import EDM, Linear, LinearContinuous

EDGES = st.lists(st.integers(1, 999), min_size=2, max_size=12, unique=True).map(lambda edges: tuple(map(float, sorted(edges))))
INNER = st.sampled_from(["left", "mid", "log-mid"])
TIMES = st.floats(0, 1000)


def f(map_, t, dtype=torch.float64):
    return map_(torch.tensor(t, dtype=dtype)).item()


@pytest.mark.parametrize(
    ("representative", "expected"),
    [
        ("left", [1.0, 2.0, 2.0, 8.0, 8.0, 18.0]),
        ("mid", [1.0, 5.0, 5.0, 13.0, 13.0, 18.0]),
        ("right", [1.0, 8.0, 8.0, 18.0, 18.0, 18.0]),
        ("log-mid", [1.0, 4.0, 4.0, 12.0, 12.0, 18.0]),  # sqrt(2 8) and sqrt(8 18)
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_representatives_by_hand(representative, expected, dtype):
    map_ = SharedIntervals(edges=(2, 8, 18), representative=representative)
    assert map_(torch.tensor([1, 2, 7.9, 8, 17.5, 18], dtype=dtype)).tolist() == expected


@given(st.floats(0.01, 1000), st.integers(1, 200), TIMES)
def test_e_tsdm_is_its_uniform_case(t_tilde, n, t):
    uniform = SharedIntervals(edges=tuple(i * t_tilde / n for i in range(n + 1)))
    assert f(uniform, t) == f(ETSDM(t_tilde=t_tilde, n=n), t)


@given(EDGES, INNER, TIMES)
def test_it_is_idempotent_where_the_representative_is_inside(edges, representative, t):
    map_ = SharedIntervals(edges=edges, representative=representative)
    assert f(map_, f(map_, t)) == f(map_, t)


@given(EDGES, st.sampled_from(["left", "mid", "right", "log-mid"]), TIMES, TIMES)
def test_it_is_monotone(edges, representative, t, u):
    map_ = SharedIntervals(edges=edges, representative=representative)
    assert f(map_, min(t, u)) <= f(map_, max(t, u))


@given(EDGES, INNER, TIMES)
def test_a_representative_is_in_the_shared_interval_and_the_rest_keeps_its_time(edges, representative, t):
    map_ = SharedIntervals(edges=edges, representative=representative)
    low, high = (end.item() for end in map_.shared_interval(torch.tensor(t, dtype=torch.float64), Linear()))
    if edges[0] <= t < edges[-1] - 1e-9:
        i = edges.index(low)
        assert high == edges[i + 1]
        assert low <= f(map_, t) < high
        assert low - 1e-9 <= t < high
    elif t < edges[0] - 1e-9 or t >= edges[-1]:
        assert low == high == t == f(map_, t)


@given(EDGES, st.data())
def test_there_are_as_many_conditions_as_sub_intervals(edges, data):
    map_ = SharedIntervals(edges=edges, representative=data.draw(INNER))
    inside = torch.linspace(edges[0], edges[-1], 5000, dtype=torch.float64)[:-1]
    middles = torch.tensor([(low + high) / 2 for low, high in pairwise(edges)], dtype=torch.float64)
    assert len(map_(torch.cat([inside, middles])).unique()) == len(edges) - 1


def test_a_floor_keeps_the_logarithm_of_the_first_condition_finite():
    # The sub-intervals of E-TSDM in EDM's noise level, sqrt(exp(B) - 1) at 0, .02, .. .1 for B = 0.1 t + 9.95 t^2.
    edges = tuple(math.sqrt(math.expm1(0.1 * t + 9.95 * t * t)) for t in (0, 0.02, 0.04, 0.06, 0.08, 0.1))
    assert edges == pytest.approx([0, 0.0774, 0.1418, 0.2067, 0.2726, 0.3402], abs=5e-5)
    t = [0.0, 0.05, 0.1, 1.0]
    left = SharedIntervals(edges=edges, floor=0.002)
    assert left.check(EDM()) == []
    assert [f(left, s) for s in t] == [0.002, 0.002, edges[1], 1.0]
    middle = SharedIntervals(edges=edges, floor=0.002, representative="log-mid")
    assert [f(middle, s) for s in t] == pytest.approx([math.sqrt(0.002 * edges[1])] * 2 + [math.sqrt(edges[1] * edges[2]), 1.0])


def test_edges_may_be_negative_where_a_remap_has_negative_values():
    map_ = SharedIntervals(edges=(-20, -5, 0, 5))
    assert [f(map_, c) for c in (-21, -20, -5.5, -5, -0.1, 4, 6)] == [-21, -20, -20, -5, -5, 0, 6]


def test_levels_are_those_of_the_representatives():
    t = torch.tensor([1.0, 3.0, 10.0, 20.0])
    map_ = SharedIntervals(edges=(2, 8, 18), representative="mid", share="both")
    assert map_.noising_time(t, Linear()).tolist() == [1, 5, 13, 20]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"edges": (0, 20, 20)}, "edges", "found 20 before 20; give strictly increasing edges"),
        ({"edges": (0, 40, 20)}, "edges", "found 40 before 20; give strictly increasing edges"),
        ({"edges": (0,)}, "edges", "found 1; give 2 or more, the ends of 1 or more sub-intervals"),
        ({}, "edges", "is required and missing; add it"),
        ({"edges": (0, 20), "floor": 20}, "floor", "20 is beyond the first sub-interval; give a value below 20"),
        ({"edges": (0, 20), "floor": -1}, "floor", "found -1; give 0 or more"),
        (
            {"edges": (0, 20), "representative": "log-mid"},
            "edges",
            "0 has no logarithm for log-mid; give a positive first edge, or a positive floor",
        ),
        (
            {"edges": (0, 20), "representative": "right", "share": "both"},
            "share",
            "'both' needs a representative inside its sub-interval, and 'right' is not; give left, mid or log-mid",
        ),
        ({"edges": (0, 20), "representative": "top"}, "representative", "found 'top'; give 'left', 'mid', 'right' or 'log-mid'"),
    ],
)
def test_wrong_fields_are_named_with_the_mend(fields, field, message):
    with pytest.raises(ValidationError) as error:
        SharedIntervals(**fields)
    assert format_errors(error.value) == [FieldProblem((field,), message)]


def test_an_infinite_edge_is_refused():
    with pytest.raises(ValidationError) as error:
        SharedIntervals(edges=(0, float("inf")))
    assert format_errors(error.value) == [FieldProblem(("edges", 1), "found inf; give a finite number")]


def test_edges_outside_the_schedule_are_problems():
    beyond = SharedIntervals(edges=(-1, 100, 2000))
    assert beyond.check(Linear()) == [
        FieldProblem(("edges",), "-1 is before the schedule's first time; give 0 or more"),
        FieldProblem(("edges",), "2000 is beyond the schedule's horizon; give 1000 or less"),
    ]
    assert SharedIntervals(edges=(0, 1)).check(LinearContinuous()) == []


def test_it_comes_back_equal_from_its_dump():
    map_ = SharedIntervals(edges=(0, 20, 50), representative="mid", share="both")
    assert condition_maps.parse(map_.model_dump()) == map_


def test_shared_levels_may_not_be_after_the_last_timestep():
    # The middle of [998.5, 1000) is 999.25; the timesteps of linear end at 999.
    map_ = SharedIntervals(edges=(0, 998.5, 1000), representative="mid", share="both")
    (problem,) = map_.check(Linear())
    assert problem.field == "share"
    assert "t = 999.25" in problem.message
    assert "give a smaller last edge" in problem.message
    assert not map_.model_copy(update={"share": "condition"}).check(Linear())
    # No timestep is in [999.5, 1000).
    assert not SharedIntervals(edges=(1, 999.5, 1000), share="both").check(Linear())


@given(EDGES, INNER, TIMES, st.sampled_from([-math.inf, math.inf]))
def test_the_next_number_up_or_down_has_the_same_condition_except_at_an_edge(edges, representative, t, direction):
    map_ = SharedIntervals(edges=edges, representative=representative)
    neighbour = math.nextafter(t, direction)
    # Whatever is within the tolerance of an edge belongs to the sub-interval that starts there.
    slack = 16 * math.ulp(edges[-1])
    if any(abs(t - edge) <= slack for edge in edges) or neighbour < 0:
        return
    if edges[0] < t < edges[-1]:
        assert f(map_, neighbour) == f(map_, t)
    else:
        assert (f(map_, neighbour), f(map_, t)) == (neighbour, t)


@given(EDGES, INNER, st.data())
def test_a_time_a_rounding_below_an_edge_has_the_condition_of_the_edge(edges, representative, data):
    map_, edge = SharedIntervals(edges=edges, representative=representative), data.draw(st.sampled_from(edges[:-1]))
    assert f(map_, math.nextafter(edge, -math.inf)) == f(map_, math.nextafter(edge, math.inf)) == f(map_, edge)
