"""Trainings on latents from disk: those of encoding on the fly, without the first stage in memory."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import etsdm
from etsdm.checkpoints.format import load_first_stage
from etsdm.data import Augmentation, Digits
from etsdm.data.latents import LATENTS_FILE
from etsdm.data.sources.latents import Latents
from etsdm.errors import DataError, EtsdmError, RecipeError
from etsdm.runs.encode import encode_recipe
from etsdm.storage.tensors import write_tensors
from etsdm.training import Trainer, encoding

LATENT = Path(__file__).parents[1] / "recipes" / "latent.yaml"
KL = "model.first_stage={type: kl, resolution: 8, in_channels: 1, out_ch: 1, ch: 8, ch_mult: [1, 2], num_res_blocks: 1, attn_resolutions: [], z_channels: 2, norm_groups: 4, scale_factor: 0.7}"  # noqa: E501
STAGES = {"vq": (), "kl": (KL,)}
LENGTH = ("training.images=640", "training.batch_size=32", "training.flip=true", "training.warmup_images=0")


def weights_of(folder, *changes):
    """A file with weights that no seed of the tests draws, whose latents have about unit variance."""
    stage = etsdm.build(LATENT, *changes).recipe.model.build(seed=77).first_stage
    images = Digits().open("train").batch(range(256)).pixels
    with torch.no_grad():
        scale = float(stage.encode(images).std())
        rows = stage.spec.latent_channels
        stage.quant_conv.weight[:rows] /= scale
        stage.quant_conv.bias[:rows] /= scale
    write_tensors(folder / "stage.safetensors", stage.state_dict())
    return f"training.first_stage_weights={folder / 'stage.safetensors'}"


@pytest.fixture(scope="module", params=STAGES)
def encoded(request, tmp_path_factory):
    """A folder of latents of the digits, and the changes of latent.yaml that made it."""
    folder, changes = tmp_path_factory.mktemp("latents"), STAGES[request.param]
    changes = (*changes, weights_of(folder, *changes), *LENGTH)
    progress = list(encode_recipe(etsdm.build(LATENT, *changes).arm("e-tsdm").recipe, folder / "latents", batch_size=100))
    assert (progress[-1].done, progress[-1].total) == (1797, 1797)
    return folder, changes


def on_disk(folder, changes, *more):
    """The recipe on the latents of a folder."""
    return etsdm.build(LATENT, *changes, f"data={{type: latents, path: {folder / 'latents'}, images: digits}}", *more, out=folder / "runs")


def losses(recipe, steps=20):
    trainer = Trainer(recipe.model, recipe.training, recipe.data.open("train"), seed=0)
    if not trainer.denoiser.has_weightless_first_stage:
        load_first_stage(trainer.denoiser, recipe.training.first_stage_weights)
    for _ in range(steps):
        trainer.step()
    return torch.cat([loss for _, loss in trainer._window])


def test_latents_from_disk_and_encoded_on_the_fly_have_equal_losses(encoded):
    folder, changes = encoded
    fly, disk = etsdm.build(LATENT, *changes).arm("e-tsdm").recipe, on_disk(folder, changes).arm("e-tsdm").recipe
    assert disk.training.flip
    found, expected = losses(disk), losses(fly)
    assert len(found) == 640
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_moments_are_the_encoders_of_each_image_and_of_its_mirror_image(encoded):
    folder, changes = encoded
    recipe = etsdm.build(LATENT, *changes).recipe
    stage = recipe.model.build().first_stage
    stage.load_state_dict(load_file(folder / "stage.safetensors"))
    for split in ("train", "test"):
        images, latents = Digits().open(split), Latents(path=str(folder / "latents")).open(split)
        assert len(latents) == len(images)
        assert torch.equal(latents.class_labels(), images.labels)
        chosen = [3, 0, len(images) - 1, 3]
        draws = Augmentation(flip=True).draw(0, 0, 4)
        found, labels = pickle.loads(pickle.dumps(latents)).read(chosen, draws)
        with torch.no_grad():
            expected = stage.moments(draws.flipped(images.pixels[chosen]))
        assert torch.allclose(found, expected, atol=1e-6)
        assert torch.equal(labels, images.labels[chosen])


def test_a_run_trains_on_latents_without_the_first_stage_and_its_checkpoint_has_it(encoded):
    folder, changes = encoded
    experiment = on_disk(folder, changes, "training.checkpoint_every=320", "training.keep_checkpoints=1").arm("e-tsdm")
    trainer = experiment.runs[0].train._new_trainer()
    assert trainer.denoiser.has_weightless_first_stage
    experiment.run()
    loaded = etsdm.load(folder / "runs" / "latent" / "e-tsdm")
    assert loaded.decode(torch.zeros(1, 2, 4, 4)).shape == (1, 1, 8, 8)
    assert set(experiment.evaluate()["e-tsdm"]) == {"loss-per-t", "lipschitz", "pixel-frechet"}
    # A longer training goes on from the checkpoint, whose first stage is on disk again.
    on_disk(folder, changes, "training.images=960", "training.keep_checkpoints=1").arm("e-tsdm").train()


def test_an_encoding_that_was_stopped_goes_on_and_makes_the_same_files(encoded, tmp_path, monkeypatch):
    _, changes = encoded
    monkeypatch.setattr(encoding, "SHARD_IMAGES", 500)
    recipe = etsdm.build(LATENT, *changes).recipe
    for progress in encode_recipe(recipe, tmp_path / "stopped"):
        if progress.done >= 1000:
            break
    first = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "stopped").glob("train-*.safetensors")}
    assert len(first) == 2
    (tmp_path / "stopped" / "train-00001.safetensors").write_bytes(b"cut short")
    list(encode_recipe(recipe, tmp_path / "stopped"))
    list(encode_recipe(recipe, tmp_path / "whole"))
    assert (tmp_path / "stopped" / "train-00000.safetensors").stat().st_mtime_ns == first["train-00000.safetensors"]
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "stopped" / file.name).read_bytes()
    record = json.loads((tmp_path / "stopped" / LATENTS_FILE).read_text())
    assert [len(record["splits"][split]["shards"]) for split in ("train", "test")] == [3, 1]
    with pytest.raises(DataError, match="holds latents of other images or of another first stage; give another folder"):
        list(encode_recipe(recipe.model_copy(update={"data": Digits(split_seed=1)}), tmp_path / "stopped"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.first_stage.num_res_blocks=2", r"^model\.first_stage: is not the one that encoded .* \(num_res_blocks\); encode again"),
        ("data.path=nowhere", r"^data\.path: .*/nowhere holds no latents\.json; make the latents with etsdm data encode RECIPE --out"),
        ("data.images=null", r"evaluation\.metrics\.2: 'pixel-frechet' compares samples with images, .*; give data\.images"),
        ("training.random_crop=0.5", r"training\.random_crop: no square is cut from images of 'latents'"),
    ],
)
def test_latents_that_do_not_fit_the_recipe_are_refused(encoded, change, message):
    folder, changes = encoded
    with pytest.raises(EtsdmError, match=message):
        on_disk(folder, changes, change).arm("e-tsdm").runs[0].check()


def test_a_changed_shard_is_refused_before_training(encoded, tmp_path):
    folder, changes = encoded
    for file in (folder / "latents").iterdir():
        (tmp_path / "latents").mkdir(exist_ok=True)
        (tmp_path / "latents" / file.name).write_bytes(file.read_bytes())
    shard = tmp_path / "latents" / "train-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00001\.safetensors: sha256 is .*; or encode again"):
        on_disk(tmp_path, changes).train()
    shard.unlink()
    with pytest.raises(DataError, match=r"train-00001\.safetensors: is missing; encode again"):
        on_disk(tmp_path, changes).train()


def test_recipes_that_cannot_be_encoded_are_refused(encoded, tmp_path):
    folder, changes = encoded
    digits = etsdm.build("digits").recipe
    with pytest.raises(RecipeError, match=r"^model\.first_stage: the recipe has none"):
        list(encode_recipe(digits, tmp_path))
    with pytest.raises(RecipeError, match=r"^data: these are latents already"):
        list(encode_recipe(on_disk(folder, changes).recipe, tmp_path))
    with pytest.raises(DataError, match=r"^training\.first_stage_weights: none are given"):
        list(encode_recipe(etsdm.build(LATENT).recipe, tmp_path))
