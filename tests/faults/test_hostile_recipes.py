"""Hostile recipes by hypothesis: each is read, or refused by one message; never a traceback, never a long wait."""

import json
import time
import warnings
from functools import cache, partial

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe import fingerprint, load_arms, to_yaml
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.yaml import compose
from etsdm.registry import REGISTRIES

SECONDS = 60.0  # of processor time: a hang, not a speed, is what these find
SMALL = {
    "name": "small",
    "description": "",
    "seeds": [0],
    "data": {"type": "digits", "held_out": 0.2, "split_seed": 0},
    "model": {
        "schedule": {"type": "linear", "timesteps": 10, "beta_start": 0.0001, "beta_end": 0.02},
        "target": {"type": "eps"},
        "condition_map": {"type": "identity"},
        "time_input": {"type": "timesteps"},
        "backbone": {"type": "mlp", "image_size": 8, "in_channels": 1, "out_channels": 1, "width": 8, "depth": 1},
    },
    "training": {"images": 10, "batch_size": 2, "loss": {"type": "mse"}, "learning_rate": 0.1},
    "sampling": {"sampler": {"type": "ddim", "steps": 3}, "n": 2, "seed": 0},
    "evaluation": {"metrics": [{"type": "lipschitz", "images": 1}], "seed": 0},
    "compute": {"threads": 1},
}
FAMILY_OF = {
    "data": "datasets",
    "model.schedule": "schedules",
    "model.target": "targets",
    "model.condition_map": "condition_maps",
    "model.time_input": "time_inputs",
    "model.backbone": "backbones",
    "model.first_stage": "first_stages",
    "training.loss": "losses",
    "training.time_sampler": "time_samplers",
    "training.optimizer": "optimizers",
    "training.lr_schedule": "lr_schedules",
    "training.ema": "emas",
    "sampling.sampler": "samplers",
    "sampling.sampler.grid": "grids",
}

NUMBERS = st.sampled_from(
    [0, 1, 2, 3, -1, 7, 1000, 10**5, 10**9, 10**12, 10**30, 2**63, 0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e-300, 5e-324, 1e-9, 1e3, 1e12, 1e300,
     -1e300, 1.7976931348623157e308, float("inf"), float("nan")]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", "linear", "null", "1", "true", "a/b", "..", "~", "\0", "\u2028", "é" * 50, "x" * 5000, "drop", "*", "{", "$HOME"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "n", "a", "steps", "0", ""]), inner, max_size=3),
    max_leaves=4,
)


@cache
def fields_of(family, name):
    return sorted(REGISTRIES[family].classes()[name].model_fields)


@st.composite
def parts(draw):
    """The path of a part, and a part of its family with some hostile fields."""
    path = draw(st.sampled_from(sorted(FAMILY_OF)))
    family = REGISTRIES[FAMILY_OF[path]]
    name = draw(st.sampled_from([name for name in family.names() if name != "external"]))
    type_name = name if not family.defaults(name) else family[name].type_name
    chosen = draw(st.lists(st.sampled_from(fields_of(FAMILY_OF[path], type_name) or ["type"]), max_size=3, unique=True))
    return path, {**{field: draw(VALUES | NUMBERS) for field in chosen}, "type": name}


def paths(tree, path=()):
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from paths(value, (*path, key))


@st.composite
def changes(draw):
    """A dotted path of a field, and a hostile value."""
    path = draw(st.sampled_from([".".join(path) for path in paths(SMALL)]))
    return path, draw(VALUES | NUMBERS)


def changed(pairs):
    tree = json.loads(json.dumps(SMALL))
    for path, value in pairs:
        *around, last = path.split(".")
        node = tree
        for step in around:
            node = node.setdefault(step, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[last] = value
    return tree


def read_or_refused(*arguments):
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            arms = load_arms(*arguments)
        for recipe in arms.recipes.values():
            assert to_yaml(recipe)
            assert len(fingerprint(recipe)) == 64
        message = "-"
    except RecipeError as error:
        message = str(error)
    assert 0 < len(message) < 20_000
    assert time.process_time() - began < SECONDS


FEW = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(FEW, max_examples=2500)


def as_overrides(pairs):
    return [f"{path}={json.dumps(value).replace('NaN', '.nan').replace('Infinity', '.inf')}" for path, value in pairs]


@FEW
@given(st.lists(changes(), min_size=1, max_size=3))
def test_hostile_values_in_a_mapping(pairs):
    read_or_refused(changed(pairs))


@FEW
@given(st.lists(parts(), min_size=1, max_size=2))
def test_hostile_parts(pairs):
    read_or_refused(changed(sorted(pairs, key=lambda pair: len(pair[0]))))


@FEW
@given(st.lists(changes() | parts(), min_size=1, max_size=3))
def test_hostile_overrides(pairs):
    read_or_refused(SMALL, *as_overrides(pairs))


TOKENS = ["a", "model", "training", ":", ": ", "- ", "\n", "\n  ", "\t", "[", "]", "{", "}", ",", "&a", "*a", "!!int", "!x", "'", '"', "|"]
TOKENS += [">", "%YAML 1.1\n", "---\n", "...\n", "#", "? ", "<<", "1e999", "0x", "\x00", "\ufeff", "\u2028", "extends", "arms", "drop", "="]


def only_recipe_errors(text):
    began, message = time.process_time(), ""
    try:
        compose(text, partial(SourceLocation, "a.yaml"))
    except RecipeError as error:
        message = str(error)
    assert len(message) < 1000
    assert time.process_time() - began < 60


@settings(FEW, max_examples=300)
@given(st.lists(st.sampled_from(TOKENS), max_size=30).map("".join) | st.text(max_size=60))
def test_hostile_yaml(text):
    only_recipe_errors(text)


@settings(FEW, max_examples=100)
@given(st.integers(0, 600), st.binary(max_size=4), st.integers(0, 600))
def test_damaged_files(tmp_path_factory, at, inserted, removed):
    whole = yaml.safe_dump({**SMALL, "arms": {"a": None, "b": {"model.condition_map": "e-tsdm"}}}).encode()
    file = tmp_path_factory.getbasetemp() / "damaged.yaml"
    file.write_bytes(whole[:at] + inserted + whole[at + min(removed, 3) :])
    read_or_refused(file)


@pytest.mark.slow
@MANY
@given(st.lists(changes() | parts(), min_size=1, max_size=3))
def test_many_hostile_recipes(pairs):
    read_or_refused(changed(sorted(pairs, key=lambda pair: len(pair[0]))))


@pytest.mark.parametrize(("part", "field"), [("edm", "sigma_max"), ("ve", "sigma_max"), ("ve", "sigma_min")])
@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e300])
def test_noise_levels_that_no_float32_holds(part, field, value):
    with pytest.raises(RecipeError, match=rf"model.schedule.{field}: found .*; give 1e"):
        etsdm.build(changed([("model.schedule", {"type": part, field: value})]))


def test_the_recipe_that_is_changed_is_valid():
    assert etsdm.build(SMALL).recipe.name == "small"
