from pathlib import Path

import pytest
import torch
import yaml

import etsdm
from etsdm.backbones.kernels import Attention
from etsdm.checkpoints import checkpoint_folder
from etsdm.errors import CheckpointError, IntegrityError, RecipeError
from etsdm.recipe import Recipe

TINY = Path(__file__).parent / "recipes" / "tiny.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    experiment = etsdm.build(TINY, out=tmp_path_factory.mktemp("trained"))
    experiment.train()
    return experiment


def test_a_path_a_name_and_a_mapping_give_the_same_recipe():
    by_path = etsdm.build(Path(__file__).parents[1] / "recipes" / "digits.yaml")
    by_name = etsdm.build("digits")
    assert by_path.fingerprint == by_name.fingerprint
    mapping = yaml.safe_load(by_path.arm("baseline").runs[0].recipe.model_dump_json())
    from_mapping = etsdm.build(mapping)
    assert from_mapping.recipe == by_path.arm("baseline").recipe
    assert list(from_mapping.arms) == ["default"]


def test_a_recipe_object_is_one_arm():
    recipe = etsdm.build(TINY).recipe
    assert isinstance(recipe, Recipe)
    assert etsdm.build(recipe, "training.images=64").recipe.training.images == 64


def test_the_recipe_as_written_is_the_arm_that_changes_nothing():
    experiment = etsdm.build(TINY)
    assert experiment.recipe == experiment.arms["e-tsdm"]
    assert experiment.denoiser.spec.condition_map.type_name == "e-tsdm"
    assert experiment.arm("baseline").denoiser.spec.condition_map.type_name == "identity"


def test_overrides_come_before_arms():
    experiment = etsdm.build(TINY, "model.condition_map.n=10")
    assert experiment.arms["e-tsdm"].model.condition_map.n == 10
    assert experiment.arms["baseline"].model.condition_map.type_name == "identity"


def test_an_unknown_arm_is_refused_with_a_near_name():
    with pytest.raises(RecipeError, match=r"unknown arm 'base-line' of recipe 'tiny'; did you mean 'baseline'\?"):
        etsdm.build(TINY).arm("base-line")


def test_several_seeds_are_runs_of_their_own(tmp_path):
    experiment = etsdm.build(TINY, "seeds=[4, 7]", out=tmp_path)
    assert [run.label for run in experiment.runs] == ["baseline seed 4", "baseline seed 7", "e-tsdm seed 4", "e-tsdm seed 7"]
    assert experiment.runs[0].folder.path == tmp_path / "tiny/baseline"
    assert experiment.runs[1].folder.path == tmp_path / "tiny/baseline/seed-7"


def test_the_trained_denoiser_is_loaded_by_run_training_and_checkpoint_folder(trained):
    folder = trained.folder.path / "e-tsdm"
    loaded = [etsdm.load(folder), etsdm.load(checkpoint_folder(folder)), etsdm.load(checkpoint_folder(folder).parents[1])]
    for denoiser in loaded:
        assert not denoiser.training
        assert all(not parameter.requires_grad for parameter in denoiser.parameters())
        x, t = torch.zeros(2, 1, 8, 8), torch.tensor([3.0, 700.0])
        assert torch.equal(denoiser.predict(x, t).x0, trained.denoiser.predict(x, t).x0)


def test_samples_are_the_same_by_the_experiment_and_by_the_function(trained):
    by_experiment = trained.sample(n=3, seed=5)
    by_function = etsdm.sample(trained.denoiser, n=3, sampler="ddim", steps=3, seed=5)
    assert torch.equal(by_experiment, by_function)
    assert by_experiment.shape == (3, 1, 8, 8)
    assert by_experiment.abs().max() <= 1


def test_load_says_what_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is no folder; give a checkpoint's folder or a run's folder"):
        etsdm.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"holds neither denoiser.json nor checkpoints"):
        etsdm.load(tmp_path)


def test_load_says_which_runs_an_experiment_has(trained):
    folder = trained.folder.path
    with pytest.raises(CheckpointError) as error:
        etsdm.load(folder)
    assert str(error.value) == f"{folder}: holds runs and is none; give one of {folder}/baseline, {folder}/e-tsdm"


def test_two_runs_never_write_one_folder(tmp_path):
    experiment = etsdm.build(TINY, out=tmp_path)
    with experiment.folder.locked(), pytest.raises(IntegrityError, match="another etsdm run is writing here"):
        etsdm.build(TINY, out=tmp_path).train()


def test_one_arm_run_alone_is_listed_with_the_others(tmp_path):
    experiment = etsdm.build(TINY, out=tmp_path)
    experiment.arm("e-tsdm").prepare()
    assert list(experiment.folder.runs()) == ["baseline", "e-tsdm"]


def test_evaluate_gives_results_by_run_and_metric(tmp_path):
    found = etsdm.build(TINY, "arms.baseline=null", out=tmp_path).arm("e-tsdm").evaluate()
    assert set(found) == {"e-tsdm"}
    assert set(found["e-tsdm"]) == {"loss-per-t", "lipschitz", "pixel-frechet", "recognition"}
    assert found["e-tsdm"]["recognition"].values["recognition"].reference > 0.9


def test_compute_says_how_the_network_is_run_and_changes_no_digest():
    plain = etsdm.build("digits").arm("baseline")
    told = etsdm.build("digits", "compute={attention: math, gradient_checkpointing: true}").arm("baseline")
    assert told.runs[0].digests == plain.runs[0].digests
    kernels = {module.kernel for module in told.denoiser.modules() if isinstance(module, Attention)}
    assert kernels == {"math"}
    assert told.denoiser.backbone.gradient_checkpointing
    assert not plain.denoiser.backbone.gradient_checkpointing
