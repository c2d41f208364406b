from functools import partial

import pytest

from etsdm.errors import RecipeError
from etsdm.recipe.arms import arm_document, arm_names
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.tree import Document
from etsdm.recipe.yaml import compose

ARMS = """\
model:
  schedule: linear
  condition_map: identity
arms:
  baseline:
  e-tsdm:
    model.condition_map: e-tsdm
  e-tsdm_10:
    model:
      condition_map.n: 10
      condition_map: {type: e-tsdm}
    model.schedule.timesteps: 100
"""


def document(text):
    return Document(compose(text, partial(SourceLocation, "a.yaml")))


def refused(text, arm="x"):
    with pytest.raises(RecipeError) as error:
        arm_document(document(text), arm)
    return str(error.value)


def test_arms_are_named_in_the_order_of_the_recipe():
    assert arm_names(document(ARMS)) == ["baseline", "e-tsdm", "e-tsdm_10"]


@pytest.mark.parametrize("text", ["a: 1\n", "a: 1\narms:\n", "a: 1\narms: {}\n"])
def test_a_recipe_without_arms_has_one_called_default(text):
    assert arm_names(document(text)) == ["default"]
    assert arm_document(document(text), "default").data == {"a": 1}


def test_an_arm_merges_its_changes_and_takes_the_arms_away():
    model = {"schedule": "linear", "condition_map": "identity"}
    assert arm_document(document(ARMS), "baseline").data == {"model": model}
    assert arm_document(document(ARMS), "e-tsdm").data == {"model": {**model, "condition_map": "e-tsdm"}}
    assert arm_document(document(ARMS), "e-tsdm_10").data == {
        "model": {"schedule": {"type": "linear", "timesteps": 100}, "condition_map": {"type": "e-tsdm", "n": 10}},
    }


def test_a_value_that_an_arm_sets_is_marked_in_the_arm():
    arm = arm_document(document(ARMS), "e-tsdm_10")
    assert {".".join(path): location.line for path, location in arm.locations.items()} == {
        "": 1,
        "model": 1,
        "model.schedule": 2,
        "model.schedule.type": 2,
        "model.schedule.timesteps": 12,
        "model.condition_map": 10,
        "model.condition_map.type": 11,
        "model.condition_map.n": 10,
    }


def test_an_unknown_arm_is_refused_with_the_near_ones():
    assert refused(ARMS, "e-tsmd") == "arms: there is no arm 'e-tsmd'; did you mean 'e-tsdm' or 'e-tsdm_10'? (a.yaml:4)"
    assert refused("a: 1\n", "e-tsdm") == "arms: there is no arm 'e-tsdm'; it has: default (a.yaml:1)"


@pytest.mark.parametrize("name", ["E-TSDM", "a/b", "..", "a.b", "-a", "a b", "a--b", ""])
def test_an_arm_that_cannot_be_a_folder_is_refused(name):
    assert refused(f"arms:\n  ok:\n  '{name}':\n", "ok") == (
        f"arms: {name!r} is no name for an arm; use lower case letters and digits, joined by single hyphens or underscores (a.yaml:3)"
    )


def test_arms_that_are_no_mappings_are_refused():
    assert refused("arms: [x]\n") == "arms: found ['x']; give a mapping of names to changes (a.yaml:1)"
    assert (
        refused("arms:\n  x: linear\n")
        == "arms.x: found 'linear'; give a mapping of changes, nothing, or drop to take an inherited arm away (a.yaml:2)"
    )


def test_a_change_given_twice_in_an_arm_is_refused():
    text = "arms:\n  x:\n    a.b: 1\n    a:\n      b: 2\n"
    assert refused(text) == "arms.x.a.b: given twice, here and at a.yaml:3; keep one (a.yaml:5)"
