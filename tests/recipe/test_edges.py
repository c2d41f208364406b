"""The times at which the arms of a recipe are measured: the sub-intervals of all arms of one schedule."""

from itertools import pairwise

import pytest

import etsdm
from etsdm.analysis import measured_edges, measured_times
from etsdm.condition_maps import EDM_PARTITIONS
from etsdm.errors import RecipeError
from etsdm.registry import condition_maps, schedules

TENTH = (0, 20, 40, 60, 80, 100)


def edges(*overrides):
    return {name: recipe.evaluation.edges for name, recipe in etsdm.build("digits", *overrides).arms.items()}


def test_all_arms_have_the_sub_intervals_of_one():
    assert edges() == {"baseline": TENTH, "e-tsdm": TENTH}
    assert edges("model.condition_map.n=2", "model.condition_map.t_tilde=60") == dict.fromkeys(("baseline", "e-tsdm"), (0, 30, 60))


def test_sub_intervals_of_several_arms_are_all_resolved():
    arms = "arms={a: {model.condition_map: {type: e-tsdm, t_tilde: 40, n: 2}}, b: {model.condition_map: {type: e-tsdm, t_tilde: 60, n: 2}}}"
    assert edges("arms=null", arms) == dict.fromkeys("ab", (0, 20, 30, 40, 60))


def test_arms_of_different_schedules_have_their_own_times():
    arms = "arms={a: {}, b: {model: {schedule: linear-continuous, condition_map: {type: e-tsdm, t_tilde: 0.2, n: 2}}}}"
    assert edges("arms=null", arms) == {"a": TENTH, "b": (0, 0.1, 0.2)}


def test_edges_of_a_recipe_hold_for_all_arms_and_are_kept_when_it_is_written():
    assert edges("evaluation.edges=[0, 5, 50]") == dict.fromkeys(("baseline", "e-tsdm"), (0, 5, 50))
    recipe = etsdm.build("digits").arms["baseline"]
    assert etsdm.build(recipe).recipe.evaluation.edges == TENTH
    with pytest.raises(RecipeError, match=r"evaluation\.edges\.2: found 5 after 5; give increasing edges"):
        etsdm.build("digits", "evaluation.edges=[0, 5, 5]")


@pytest.mark.parametrize(
    ("schedule", "condition_map", "expected"),
    [
        ("linear-continuous", "identity", (0, 0.02, 0.04, 0.06, 0.08, 0.1)),
        ({"type": "cosine", "timesteps": 50}, "constant", (0, 1, 2, 3, 4, 5)),
        ("edm", "identity", EDM_PARTITIONS["edm-vp-equivalent"]),
        ("edm", "edm-quantile", EDM_PARTITIONS["edm-quantile"]),
        ("linear", {"type": "shared-intervals", "edges": [50, 80, 200]}, (0, 50, 80, 200)),
        # After a remap the edges are times again: inverse(t) = 1 / (t + 1) from 1 down to 1 / 1000, normalised to [0, 1000].
        (
            "linear",
            {"type": "compose", "maps": [{"type": "inverse", "scale": "none"}, {"type": "shared-intervals", "edges": [0.1, 0.5]}]},
            (0, 1, 9),
        ),
    ],
)
def test_edges_are_times_of_the_schedule(schedule, condition_map, expected):
    found = measured_edges([condition_maps.parse(condition_map)], schedules.parse(schedule))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in schedules.names() if name != "zero-terminal-snr-continuous"])
def test_times_of_every_schedule_cover_it_and_resolve_every_sub_interval(name):
    schedule = schedules.create(name)
    found = measured_edges([condition_maps.create("identity")], schedule)
    times = measured_times(schedule, found, fine=5, coarse=18)
    assert len(times) == 25 + 18
    assert (times.diff() > 0).all()
    assert schedule.sigma(times).min() > 0
    for low, high in pairwise(found):
        assert ((times >= low - 1e-9) & (times < high - 1e-9)).sum() == 5
    # Beyond the sub-intervals no gap is larger than twice the mean one, in t or, of noise levels, in log sigma.
    beyond = times[times >= found[-1]]
    gaps = (beyond.log() if schedule.time_is_noise_level else beyond).diff()
    assert gaps.max() < 2 * gaps.mean()
