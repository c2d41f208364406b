from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, PositiveInt

from etsdm.recipe.files import read
from etsdm.recipe.load import validate
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.tree import Document
from etsdm.recipe.yaml import compose, to_yaml
from etsdm.registry import Frozen, Part, Registry

schedules: Registry[Any] = Registry("schedules", "etsdm.registry", "schedule")


class Schedule(Part, family=schedules):
    """A family of parts."""


@schedules.register("linear")
class Linear(Schedule):
    """A part with defaults."""

    timesteps: PositiveInt = 1000
    beta: float = 1e-5


class Recipe(Frozen):
    name: str = "digits"
    schedule: Schedule = Linear()
    betas: tuple[float, ...] = (0.9, 1e22)
    times: tuple[int, ...] = ()
    metrics: tuple[Schedule, ...] = (Linear(timesteps=2),)
    options: dict[str, Any] = Field(default_factory=dict)


def read_back(text):
    return Document(compose(text, lambda line: SourceLocation("a.yaml", line))).data


def test_the_resolved_recipe_is_readable():
    assert to_yaml(Recipe(times=tuple(range(1000, 1020)), options={"shared": [[1, 2], [1, 2]]})) == (
        "name: digits\n"
        "schedule:\n"
        "  type: linear\n"
        "  timesteps: 1000\n"
        "  beta: 1.0e-05\n"
        "betas: [0.9, 1.0e+22]\n"
        "times:\n" + "".join(f"  - {i}\n" for i in range(1000, 1020)) + "metrics:\n"
        "  - type: linear\n"
        "    timesteps: 2\n"
        "    beta: 1.0e-05\n"
        "options:\n"
        "  shared:\n"
        "    - [1, 2]\n"
        "    - [1, 2]\n"
    )


def test_what_is_written_is_read_back_as_the_same_recipe(tmp_path):
    recipe = Recipe(name="größer: 1e-4", schedule=Linear(beta=0.1 + 0.2), options={"on": "off", "empty": {}})
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(recipe), encoding="utf-8")
    assert validate(read(file), Recipe) == recipe


def test_text_that_looks_like_another_value_is_quoted():
    words = ["1e-4", "012", "0o17", "1:30", "2020-01-01", "on", "no", "null", "~", "", "1_000", "=", "<<", "- a", "a: b", "a #b", ".inf"]
    text = to_yaml(Recipe(options={word: word for word in words}))
    assert read_back(text)["options"] == {word: word for word in words}
    # To a reader of YAML 1.1 as well.
    assert yaml.safe_load(text) == read_back(text)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3), max_leaves=6)


# Hypothesis builds its table of characters at the first draw.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(TEXT, VALUES, max_size=3))
def test_all_that_json_can_hold_is_read_back_equal(options):
    recipe = Recipe(options=options)
    assert repr(read_back(to_yaml(recipe))) == repr(recipe.model_dump(mode="json"))
