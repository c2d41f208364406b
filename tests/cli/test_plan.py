"""`etsdm plan` as a person uses it: plans of a checkpoint, of a recipe, and of a schedule alone."""

import json
import re
from pathlib import Path

import pytest
from entry_point import rows, run

from etsdm.checkpoints.format import write_denoiser
from etsdm.runs.folder import TrainingFolder
from etsdm.storage.files import atomic_folder

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"


def plan(*arguments):
    result = run("plan", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def checkpoint(tiny_denoiser, tmp_path_factory):
    """A checkpoint that was trained with E-TSDM, in a run's folder without a recipe."""
    denoiser = tiny_denoiser(target="v", condition_map="e-tsdm")
    with atomic_folder(tmp_path_factory.mktemp("run") / "checkpoints" / "000000000320") as folder:
        write_denoiser(folder, denoiser, denoiser.backbone.state_dict())
    return folder.parent / "000000000320"


def test_a_checkpoint_a_recipe_and_a_schedule_with_the_same_parts_have_one_plan(checkpoint):
    found = plan(checkpoint, "--steps", 25)
    assert (found["nfe"], found["steps"], found["end"], found["sampler"]["type"]) == (25, 25, None, "ddim")
    # The last times of the leading grid of 25 steps are 80, 40 and 0, left edges of E-TSDM's sub-intervals of 20.
    assert [(call["t"], call["f"]) for call in found["calls"]][-3:] == [(80, 80), (40, 40), (0, 0)]
    assert plan("--schedule", "linear", "--condition-map", "e-tsdm", "--steps", 25) == found
    assert plan(TINY, "--sampler", "ddim", "--steps", 25) == found


def test_another_condition_map_changes_f_alone(checkpoint):
    shared, identity = plan(checkpoint, "--steps", 30), plan(checkpoint, "--steps", 30, "--condition-map", "identity")
    assert [call["f"] for call in shared["calls"]] != [call["t"] for call in shared["calls"]]
    assert [call["f"] for call in identity["calls"]] == [call["t"] for call in identity["calls"]]
    assert [call | {"f": 0} for call in shared["calls"]] == [call | {"f": 0} for call in identity["calls"]]


def test_a_recipe_has_its_sampler_and_takes_changes():
    assert plan(TINY)["nfe"] == 3
    assert plan(TINY, "sampling.sampler.steps=5", "sampling.sampler.eta=0.5")["sampler"] == {
        **plan(TINY)["sampler"],
        "steps": 5,
        "eta": 0.5,
    }


def test_the_sampler_of_a_checkpoints_run_is_the_default(checkpoint):
    assert plan(checkpoint)["sampler"]["steps"] == 50
    recipe = f"extends: {TINY}\nsampling: {{sampler: {{type: ddim, steps: 4, eta: 0.5, grid: trailing}}}}\n"
    TrainingFolder(checkpoint.parents[1]).start("digest", recipe, {}, depends_on={})
    for folder in (checkpoint, checkpoint.parents[1]):
        found = plan(folder)
        assert (found["sampler"]["eta"], found["nfe"], found["calls"][0]["t"]) == (0.5, 4, 999)
    other = plan(checkpoint, "--steps", 2)
    assert (other["sampler"]["eta"], other["nfe"]) == (0.5, 2)
    for name in ("recipe.yaml", "environment.json"):
        (checkpoint.parents[1] / name).unlink()


def test_the_table_has_a_row_for_each_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("plan", "--schedule", "linear", "--sampler", "ddim", "--steps", 3).stdout
    # The trailing grid, because the leading one would begin at 666.
    assert [row[:4] for row in rows(shown)] == [["1", "1", "999", "999"], ["2", "2", "666", "666"], ["3", "3", "332", "332"]]
    assert "3 network calls in 3 steps, to the clean image" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"nothing to plan for; give a checkpoint, a recipe, or --schedule"),
        (("--schedule", "liner"), r"--schedule: unknown schedule 'liner'; did you mean 'linear'\?"),
        (("--schedule", "linear", "--steps", "1001"), r"--(sampler: )?steps: 1001 steps do not fit .* give 1 to 1000"),
        (("--schedule", "linear", "--sampler", "{type: ddim, t_end: 5}"), r"--sampler(: |\.)t_end: grid 'auto' ends in the clean image"),
        (
            ("--schedule", "linear-continuous", "--condition-map", "e-tsdm"),
            r"--condition-map\.t_tilde: 100 is beyond the schedule's horizon; give 1 or less",
        ),
        (("digits", "--schedule", "cosine"), r"--schedule: digits has its own; leave it out"),
        (("digits", "--target", "v"), r"--target: digits has its own; leave it out"),
        (("digit",), r"no recipe 'digit'; did you mean 'digits'\?"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    result = run("plan", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.match(f"error: {message}", result.stderr), result.stderr


def test_a_checkpoint_takes_no_changes(checkpoint):
    result = run("plan", checkpoint, "sampling.n=3")
    assert (result.returncode, result.stderr) == (2, "error: sampling.n=3: a checkpoint has no fields to change; leave it out\n")
