"""Arms that are dropped, `extends` of mappings, and fields of a part that a recipe leaves at its default."""

from pathlib import Path

import pytest

import etsdm
from etsdm.errors import RecipeError

BASE = """\
name: base
data: digits
model: {schedule: linear, backbone: mlp-digits}
training: {images: 100}
arms:
  baseline:
  e-tsdm: {model.condition_map: e-tsdm}
"""
PLAIN = {"data": "digits", "model": {"schedule": "linear", "backbone": "mlp-digits"}, "training": {"images": 1}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)


def arms(source, *overrides):
    return list(etsdm.build(source, *overrides).arms)


def refused(source, *overrides):
    with pytest.raises(RecipeError) as caught:
        etsdm.build(source, *overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("arms: {e-tsdm: drop}", ["baseline"]),
        ("arms: {baseline: drop, mine: {training.images: 5}}", ["e-tsdm", "mine"]),
        ("arms: {e-tsdm: drop, baseline: drop}", ["default"]),
        ("arms: {baseline: , e-tsdm: }", ["baseline", "e-tsdm"]),
    ],
)
def test_inherited_arms_are_dropped(text, left):
    Path("a.yaml").write_text(f"extends: base.yaml\n{text}\n")
    assert arms("a.yaml") == left


def test_a_dropped_arm_may_be_given_anew():
    Path("a.yaml").write_text("extends: base.yaml\narms: {e-tsdm: drop}\n")
    Path("b.yaml").write_text("extends: a.yaml\narms: {e-tsdm: {training.images: 7}}\n")
    arm = etsdm.build("b.yaml").arms["e-tsdm"]
    assert (arm.training.images, arm.model.condition_map.type_name) == (7, "identity")


def test_an_override_drops_an_arm():
    assert arms("base.yaml", "arms.e-tsdm=drop") == ["baseline"]
    assert arms({"extends": "base.yaml", "arms": {"e-tsdm": "drop"}}) == ["baseline"]


def test_only_an_arm_that_is_there_can_be_dropped():
    Path("a.yaml").write_text("extends: base.yaml\narms:\n  e-tsdn: drop\n")
    assert refused("a.yaml") == "arms.e-tsdn: there is no arm to drop; did you mean 'e-tsdm'? (a.yaml:3)"
    assert "arms.x: there is no arm to drop" in refused("base.yaml", "arms.x=drop")
    assert "arms.x: there is no arm to drop" in refused({**PLAIN, "arms": {"x": "drop"}})
    assert "give a mapping of changes, nothing, or drop" in refused("base.yaml", "arms.e-tsdm=leave")


@pytest.mark.parametrize("extends", ["base.yaml", ["base.yaml"], "digits", ["digits", "base.yaml"]])
def test_a_mapping_extends_files_and_named_recipes(extends):
    experiment = etsdm.build({"extends": extends, "training": {"images": 20_000}}, "sampling.n=8")
    assert list(experiment.arms) == ["baseline", "e-tsdm"]
    assert experiment.name == "recipe"
    assert experiment.recipe.training.images == 20_000
    assert experiment.recipe.sampling.n == 8


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("base.yml", "extends: no recipe 'base.yml'|no recipe 'base.yml'"),
        (5, "extends: found 5; give a file or a list of files"),
        ([["base.yaml"]], "extends.0: found .*; give a file"),
        ("nowhere/a.yaml", "no file nowhere/a.yaml"),
        (None, "extends: found None"),
    ],
)
def test_what_a_mapping_cannot_extend(extends, message):
    with pytest.raises(RecipeError, match=message):
        etsdm.build({"extends": extends})


def test_fields_of_a_default_part_are_changed():
    recipe = etsdm.build(
        PLAIN,
        "sampling.sampler.steps=20",
        "training.optimizer.weight_decay=0.1",
        "training.optimizer.betas=[0.5, 0.9]",
        "training.ema.decay=0.5",
        "training.loss.weighting={type: min-snr}",
        "model.target.scale_input=true",
    ).recipe
    assert recipe.sampling.sampler.model_dump() == {**recipe.sampling.sampler.model_dump(), "type": "ddim", "steps": 20}
    assert recipe.training.optimizer.model_dump() == {"type": "adam", "betas": (0.5, 0.9), "weight_decay": 0.1}
    assert recipe.training.ema.decay == 0.5
    assert (recipe.training.loss.type_name, recipe.training.loss.weighting.type_name) == ("mse", "min-snr")
    assert (recipe.model.target.type_name, recipe.model.target.scale_input) == ("eps", True)


def test_fields_of_the_default_stay_with_the_default():
    assert refused(PLAIN, "sampling.sampler.stepz=20") == (
        "sampling.sampler.stepz: is no field of 'ddim', the default (give `type` for another); did you mean 'steps'? (command line)"
    )
    assert "is no field of 'identity', the default (give `type`" in refused(PLAIN, "model.condition_map.n=10")


def test_named_samplings_change_the_default_sampler():
    samplings = etsdm.build(
        PLAIN, "sampling.few.sampler.steps=5", "sampling.many.sampler.steps=500", "sampling.sampler.eta=1"
    ).recipe.samplings
    assert {name: (one.sampler.steps, one.sampler.eta) for name, one in samplings.items()} == {"few": (5, 1.0), "many": (500, 1.0)}
