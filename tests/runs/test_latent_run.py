"""Stages of a run on latents: the weights of its first stage come from a file once, and from its checkpoints ever after."""

import shutil
from pathlib import Path

import pytest
import torch

import etsdm
from etsdm.checkpoints import checkpoint_folder
from etsdm.data import Digits
from etsdm.errors import CheckpointError, DataError
from etsdm.randomness import per_sample_normal
from etsdm.runs import STAGES
from etsdm.storage.tensors import write_tensors

LATENT = Path(__file__).parents[1] / "recipes" / "latent.yaml"
KEYS = "a safetensors file of its state dict, in the keys of CompVis/latent-diffusion"


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """Weights of the first stage of latent.yaml in a file, and what they are; no seed of the tests draws these."""
    file = tmp_path_factory.mktemp("weights") / "vq.safetensors"
    weights = etsdm.build(LATENT).recipe.model.build(seed=77).first_stage.state_dict()
    weights["decoder.conv_out.weight"] *= 20  # so that it decodes to more than an image's range
    write_tensors(file, weights)
    return file, weights


@pytest.fixture(scope="module")
def finished_latent(tmp_path_factory, first_stage):
    """A folder in which one arm of the latent recipe has run; its weights of the first stage are no longer where they were."""
    out = tmp_path_factory.mktemp("latent")
    shutil.copy(first_stage[0], out / "vq.safetensors")
    etsdm.build(LATENT, f"training.first_stage_weights={out / 'vq.safetensors'}", out=out / "runs").arm("e-tsdm").run()
    (out / "vq.safetensors").unlink()
    return out


def latent_run(folder, *overrides):
    """The run of the latent recipe in `runs` of a folder, whose weights of the first stage are or were beside it."""
    return (
        etsdm.build(LATENT, f"training.first_stage_weights={folder / 'vq.safetensors'}", *overrides, out=folder / "runs")
        .arm("e-tsdm")
        .runs[0]
    )


def test_a_latent_recipe_is_built_without_its_weights(tmp_path):
    experiment = etsdm.build(LATENT, "training.first_stage_weights=nowhere.safetensors", out=tmp_path / "runs")
    denoiser = experiment.denoiser
    assert denoiser.shape == (2, 4, 4)
    images = Digits().open("test").pixels[:2]
    latents = denoiser.encode(images)
    assert denoiser.predict(latents, 500).x0.shape == (2, 2, 4, 4)
    assert denoiser.decode(latents).shape == images.shape
    assert experiment.sample(2, steps=2).shape == (2, 1, 8, 8)
    assert not (tmp_path / "runs").exists()


def test_an_untrained_latent_denoiser_has_the_weights_of_its_file(first_stage):
    file, weights = first_stage
    denoiser = etsdm.build(LATENT, f"training.first_stage_weights={file}").denoiser
    assert all(torch.equal(denoiser.first_stage.state_dict()[name], value) for name, value in weights.items())


@pytest.mark.parametrize("stage", [("train",), STAGES])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.first_stage_weights=null",
            f"training.first_stage_weights: none are given for first stage 'vq'; give {KEYS}",
        ),
        (
            "training.first_stage_weights=models/vq.safetensors",
            f"training.first_stage_weights: {{here}}/models/vq.safetensors is missing; put there the weights of first stage 'vq': {KEYS}",
        ),
    ],
)
def test_training_without_the_weights_of_the_first_stage_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, stage, override, message
):
    monkeypatch.chdir(tmp_path)
    experiment = etsdm.build(LATENT, override)
    [run] = experiment.arm("e-tsdm").runs
    for refused in (lambda: run.check(stage), experiment.train, experiment.run, experiment.evaluate, lambda: next(run.run(stage))):
        with pytest.raises(DataError) as error:
            refused()
        assert str(error.value) == message.format(here=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_the_first_stage_are_refused(tmp_path, first_stage):
    _, weights = first_stage
    write_tensors(tmp_path / "vq.safetensors", {name: value for name, value in weights.items() if name != "quant_conv.bias"})
    experiment = etsdm.build(LATENT, f"training.first_stage_weights={tmp_path / 'vq.safetensors'}", out=tmp_path / "runs")
    with pytest.raises(CheckpointError, match=r"vq.safetensors: the weights do not fit first stage 'vq': Missing key"):
        experiment.train()


def test_a_latent_recipe_runs_from_the_weights_of_its_file(finished_latent, first_stage):
    _, weights = first_stage
    run = latent_run(finished_latent)
    assert all(run.is_done(stage) for stage in STAGES)
    trained = run.load_denoiser()
    assert all(torch.equal(trained.first_stage.state_dict()[name], value) for name, value in weights.items())
    drawn = run.samples.load().pixels
    assert drawn.shape == (8, 1, 8, 8)
    assert (drawn.min(), drawn.max()) == (-1, 1)
    assert run.results.keys() == {"loss-per-t", "lipschitz", "pixel-frechet"}
    # Shared conditions: exactly 0 inside [0, 20), a jump after it, for latents as for images.
    curve = run.results["lipschitz"].curves["lipschitz"]
    assert curve.mean[:19] == (0.0,) * 19
    assert curve.mean[19] > 0


def test_samples_of_a_latent_recipe_are_its_decoded_latents(finished_latent, first_stage):
    run = latent_run(finished_latent)
    denoiser = etsdm.load(finished_latent / "runs/latent/e-tsdm")
    *_, last = run.recipe.sampling.sampler.trajectory(denoiser, per_sample_normal(0, "sampling/noise", range(8), (2, 4, 4)))
    assert last.x.shape == (8, 2, 4, 4)
    drawn = run.samples.load().pixels
    torch.testing.assert_close(drawn, denoiser.decode(last.x).clamp(-1, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(etsdm.sample(denoiser, 8, sampler=run.recipe.sampling.sampler, seed=0), drawn, rtol=1e-4, atol=1e-5)


def test_a_finished_latent_training_is_sampled_and_measured_without_the_file(finished_latent, tmp_path):
    shutil.copytree(finished_latent / "runs", tmp_path / "runs")
    weights = f"training.first_stage_weights={finished_latent / 'vq.safetensors'}"
    [run] = etsdm.build(LATENT, weights, "sampling.n=4", out=tmp_path / "runs").arm("e-tsdm").runs
    assert [progress.stage for progress in run.run() if progress.reused] == ["train"]
    assert len(run.samples) == 4


def test_a_latent_training_that_was_stopped_goes_on_without_the_file(finished_latent, first_stage, tmp_path):
    shutil.copy(first_stage[0], tmp_path / "vq.safetensors")
    weights = f"training.first_stage_weights={tmp_path / 'vq.safetensors'}"
    run = etsdm.build(LATENT, weights, out=tmp_path / "runs").arm("e-tsdm").runs[0]
    for progress in run.run(("train",)):
        if progress.done >= 96:
            break  # before the checkpoint that would follow
    (tmp_path / "vq.safetensors").unlink()
    seen = [progress.done for progress in run.run(("train",))]
    assert seen[0] == 64
    files = [checkpoint_folder(base / "runs/latent/e-tsdm") for base in (tmp_path, finished_latent)]
    for name in ("weights.safetensors", "first-stage.safetensors"):
        assert (files[0] / name).read_bytes() == (files[1] / name).read_bytes()


def test_a_checkpoint_of_another_latent_training_does_not_stand_for_the_file(finished_latent, tmp_path):
    shutil.copytree(finished_latent / "runs", tmp_path / "runs")
    weights = f"training.first_stage_weights={finished_latent / 'vq.safetensors'}"
    experiment = etsdm.build(LATENT, weights, "training.learning_rate=1e-3", out=tmp_path / "runs").arm("e-tsdm")
    with pytest.raises(DataError, match=r"^training.first_stage_weights: .*vq.safetensors is missing"):
        experiment.train()
    assert len(experiment.folder.trainings()) == 1
