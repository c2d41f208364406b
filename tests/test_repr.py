"""What a notebook prints of an object names what a person would ask of it."""

from pathlib import Path

import pytest

import etsdm

TINY = Path(__file__).parent / "recipes" / "tiny.yaml"


@pytest.fixture
def experiment(tmp_path):
    return etsdm.build(TINY, "seeds=[0, 7]", out=tmp_path)


def test_an_experiment_names_its_recipe_arms_and_folder(experiment, tmp_path):
    folder = str(tmp_path / "tiny")
    assert repr(experiment) == f"Experiment('tiny', arms baseline, e-tsdm, in {folder!r})"
    assert repr(experiment.arm("e-tsdm")) == f"Experiment('tiny', arms e-tsdm, in {folder!r})"


def test_a_run_names_its_arm_seed_and_folder(experiment, tmp_path):
    run = experiment.runs[3]
    assert repr(run) == f"Run('e-tsdm seed 7' in {str(run.folder.path)!r})"
    assert run.folder.path.is_relative_to(tmp_path / "tiny" / "e-tsdm")
