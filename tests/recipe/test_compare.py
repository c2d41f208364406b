from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt

from etsdm.recipe.compare import MISSING, canonical, diff, fingerprint
from etsdm.registry import Frozen, Part, Registry

schedules: Registry[Any] = Registry("schedules", "etsdm.registry", "schedule")


class Schedule(Part, family=schedules):
    """A family of parts."""


@schedules.register("linear")
class Linear(Schedule):
    """A part with defaults."""

    timesteps: PositiveInt = 1000
    beta: float = 1e-4


@schedules.register("cosine")
class Cosine(Schedule):
    """Another part."""

    s: float = 0.008


class Training(Frozen):
    images: PositiveInt = 100
    betas: tuple[float, ...] = (0.9, 0.999)
    note: str | None = None


class Recipe(Frozen):
    schedule: Schedule = Linear()
    training: Training = Training()
    metrics: tuple[Schedule, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)


SPELLED_OUT = {
    "schedule": {"type": "linear", "timesteps": 1000, "beta": 0.0001},
    "training": {"images": 100, "betas": [0.9, 0.999], "note": None},
    "metrics": [{"type": "cosine", "s": 0.008}],
    "options": {"a": 1, "b": {"c": 2}},
}


def recipe(**fields):
    return Recipe.model_validate(fields)


def test_the_canonical_form_is_sorted_json_without_spaces():
    assert canonical(Recipe(options={"b": 1, "a": "é"})) == (
        '{"metrics":[],"options":{"a":"\\u00e9","b":1},"schedule":{"beta":0.0001,"timesteps":1000,"type":"linear"},'
        '"training":{"betas":[0.9,0.999],"images":100,"note":null}}'
    )


def test_the_fingerprint_is_frozen():
    # sha256sum of the canonical form of the defaults.
    assert fingerprint(Recipe()) == "fbb1c55a03eefd57ba1e32e48b3b539a2f6c136c115826f2621e16b30dc829e5"


@pytest.mark.parametrize("schedule", ["linear", {"type": "linear"}, {"beta": 1e-4, "type": "linear", "timesteps": 1000}, Linear()])
def test_spellings_of_one_recipe_have_one_fingerprint(schedule):
    assert fingerprint(recipe(schedule=schedule)) == fingerprint(Recipe())


def test_different_recipes_have_different_fingerprints():
    assert fingerprint(recipe(schedule={"type": "linear", "beta": 2e-4})) != fingerprint(Recipe())


def shuffled(value):
    """The same value with the keys of its mappings in any order."""
    if isinstance(value, dict):
        fields = st.fixed_dictionaries({key: shuffled(entry) for key, entry in value.items()})
        return fields.flatmap(lambda d: st.permutations(list(d.items())).map(dict))
    if isinstance(value, list):
        return st.tuples(*map(shuffled, value)).map(list)
    return st.just(value)


@given(shuffled(SPELLED_OUT))
def test_the_order_of_keys_does_not_matter(spelling):
    assert fingerprint(recipe(**spelling)) == fingerprint(recipe(**SPELLED_OUT))
    assert diff(recipe(**spelling), recipe(**SPELLED_OUT)) == []


def test_only_fields_that_differ_are_listed():
    other = recipe(schedule={"type": "linear", "beta": 2e-4}, training={"images": 100, "note": "x"})
    assert diff(Recipe(), other) == [("schedule.beta", 1e-4, 2e-4), ("training.note", None, "x")]


def test_parts_of_different_type_differ_as_a_whole():
    linear = {"type": "linear", "timesteps": 1000, "beta": 1e-4}
    assert diff(Recipe(), recipe(schedule="cosine")) == [("schedule", linear, {"type": "cosine", "s": 0.008})]


def test_a_list_of_values_differs_as_a_whole_and_a_list_of_parts_by_entry():
    a = recipe(training={"betas": [0.9, 0.99]}, metrics=["cosine", "linear"])
    b = recipe(training={"betas": [0.9, 0.999]}, metrics=[{"type": "cosine", "s": 1}, "linear", "cosine"])
    assert diff(a, b) == [
        ("training.betas", [0.9, 0.99], [0.9, 0.999]),
        ("metrics.0.s", 0.008, 1.0),
        ("metrics.2", MISSING, {"type": "cosine", "s": 0.008}),
    ]


def test_a_key_that_one_lacks_is_missing_and_not_none():
    a, b = recipe(options={"x": 1, "y": None}), recipe(options={"y": 2, "z": 3})
    assert diff(a, b) == [("options.x", 1, MISSING), ("options.y", None, 2), ("options.z", MISSING, 3)]
    assert repr(MISSING) == "MISSING"


VALUES = st.none() | st.booleans() | st.integers(-1, 1) | st.floats(-1, 1) | st.sampled_from(["", "1"])
OPTIONS = st.dictionaries(st.sampled_from("abc"), VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from("ab"), VALUES))


@given(OPTIONS, OPTIONS)
def test_the_difference_is_empty_exactly_when_the_fingerprints_agree(a, b):
    a, b = recipe(options=a), recipe(options=b)
    assert (diff(a, b) == []) == (fingerprint(a) == fingerprint(b))
    assert [(path, y, x) for path, x, y in sorted(diff(a, b))] == [tuple(entry) for entry in sorted(diff(b, a))]
