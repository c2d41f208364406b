"""Folders and ids of pipelines: their parts, and what is refused before anything runs."""

import json
import pickle
import shutil

import diffusers
import pytest
import torch
from wrapped_pipelines import (
    ddim_pipeline,
    edit,
    start,
    unet,
)

from etsdm.errors import CheckpointError, PartError, StorageError
from etsdm.interop import wrap

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
SHARED = {"type": "e-tsdm", "t_tilde": 300, "n": 3}


@pytest.fixture
def ddim():
    return ddim_pipeline()


@pytest.fixture
def folder(tmp_path):
    ddim_pipeline().save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def test_a_folder_gives_the_pipeline(ddim, folder):
    denoiser, x, t = wrap(folder), start(1, 8, 8), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        assert torch.equal(denoiser.output(x, t), ddim.unet(x, t).sample)
    assert not denoiser.training
    assert wrap(str(folder)).spec.schedule == denoiser.schedule


def test_the_folder_of_a_network_alone(ddim, folder):
    x, t = start(1, 8, 8), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        assert torch.equal(wrap(folder / "unet", schedule="linear", target="eps").output(x, t), ddim.unet(x, t).sample)
    with pytest.raises(PartError, match=r"^schedule: is missing"):
        wrap(folder / "unet")


def test_a_map_in_the_config_of_a_saved_network_is_the_denoisers(ddim, tmp_path):
    net = unet()
    net.register_to_config(condition_map={"type": "e-tsdm", "t_tilde": 300.0, "n": 3})
    diffusers.DDIMPipeline(net, ddim.scheduler).save_pretrained(tmp_path / "pipeline")
    found = wrap(tmp_path / "pipeline").condition_map
    assert (found.t_tilde, found.n) == (300, 3)


def test_a_map_in_the_config_of_the_scheduler_is_the_denoisers(ddim, folder):
    edit(folder / "scheduler" / "scheduler_config.json", condition_map=SHARED)
    found = wrap(folder).condition_map
    assert (found.t_tilde, found.n) == (300, 3)


class Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_pickle_in_a_folder_is_refused_and_not_run(folder, tmp_path):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"unet: holds diffusion_pytorch_model\.bin, a pickle, .*save it with safe_serialization"):
        wrap(folder)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_the_weights_is_not_read(folder, tmp_path):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    wrap(folder)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_named_as_a_shard_is_refused(folder, tmp_path):
    (folder / "unet" / "shard.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    index = {"metadata": {}, "weight_map": {"conv_in.weight": "shard.bin"}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"index\.json: 'shard\.bin' is no safetensors file of the folder"):
        wrap(folder)
    assert not (tmp_path / "ran").exists()


CODE = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Own: pass\n"


@pytest.mark.parametrize("change", [{"_class_name": ["own", "Own"]}, {"unet": ["own", "Own"]}, {"scheduler": ["own", "Own"]}])
def test_code_in_a_folder_is_refused_and_not_run(folder, change):
    (folder / "own.py").write_text(CODE)
    (folder / "unet" / "own.py").write_text(CODE)
    edit(folder / "model_index.json", **change)
    with pytest.raises(CheckpointError, match=rf"model_index\.json: {next(iter(change))} "):
        wrap(folder)
    assert not list(folder.rglob("ran"))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model_index.json", {"scheduler": [None, None]}, "no unet or transformer with a scheduler"),
        ("model_index.json", {"scheduler": ["diffusers", "UNet2DModel"]}, "'UNet2DModel' is no scheduler"),
        ("model_index.json", {"scheduler": ["diffusers", "NoScheduler"]}, "'NoScheduler' is no class of diffusers"),
        ("unet/config.json", {"_class_name": "UNet1DModel"}, "'UNet1DModel' is none of UNet2DModel"),
        ("unet/config.json", {"quantization_config": {"quant_method": "x"}}, "quantization_config"),
        ("unet/config.json", {"block_out_channels": [8, 24]}, "diffusers cannot load it"),
        ("unet/config.json", {"up_block_types": ["NoBlock"]}, "diffusers cannot load it"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "none"}, "diffusers cannot load it"),
    ],
)
def test_a_damaged_folder_is_refused(folder, file, change, message):
    edit(folder / file, **change)
    with pytest.raises(CheckpointError, match=message):
        wrap(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_or_broken_file_is_named(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(CheckpointError, match=rf"{file.split('/')[1]}: is no JSON object"):
        wrap(folder)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file.split('/')[1]}: is missing"):
        wrap(folder)


def test_truncated_weights_are_refused(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"unet: diffusers cannot load it"):
        wrap(folder)


def test_folders_and_ids_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"holds neither model_index\.json nor config\.json"):
        wrap(tmp_path)
    with pytest.raises(CheckpointError, match=r"^nowhere: is no folder and no id on the Hub"):
        wrap("nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises((CheckpointError, StorageError), match="is no folder"):
        wrap(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"^etsdm-tests/nothing: is no folder here, and cannot be read from the Hub \(.*connection$"):
        wrap("etsdm-tests/nothing")


def test_an_id_in_the_cache_of_the_hub_is_read_without_a_network(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert wrap("owner/name").shape == (1, 8, 8)


def test_a_pipeline_of_further_images_is_refused(folder):
    edit(folder / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    with pytest.raises(PartError, match=r"^model: the network of StableDiffusionInpaintPipeline receives further images"):
        wrap(folder)
