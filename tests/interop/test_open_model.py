"""`open_model` and `diagnose` on what other libraries wrote: folders of diffusers and files of weights."""

import json
import shutil

import pytest
import torch
from entry_point import run
from foreign import Payload, filled
from safetensors.torch import save_file

import etsdm
from etsdm.backbones import ADMUNet
from etsdm.condition_maps import ETSDM, Identity
from etsdm.errors import CheckpointError, IntegrityError, PartError
from etsdm.interop import Options, condition_map_metadata, convert, open_model, share_timesteps
from etsdm.interop.open_model import kind_of_model
from etsdm.report.diagnosis import diagnose

SMALL = {"image_size": 8, "in_channels": 1, "out_channels": 1, "model_channels": 8, "channel_mult": (1, 2), "attention_resolutions": (2,)}
GIVEN = {"schedule": {"type": "linear", "timesteps": 50}, "backbone": {"image_size": 8, "num_heads": 1, "norm_groups": 4}}
OF_MAP = {"schedule": "linear", "backbone": GIVEN["backbone"]}
FEW = ("--images", 2, "--fine", 1, "--coarse", 2)


@pytest.fixture(scope="module")
def network():
    return filled(ADMUNet(**SMALL, num_res_blocks=1, num_heads=1, norm_groups=4).build())


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder of diffusers with a shared network, and its network alone."""
    diffusers = pytest.importorskip("diffusers")
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8, 16)}
    unet = filled(diffusers.UNet2DModel(**sizes, **blocks, norm_num_groups=4))
    share_timesteps(unet)
    folder = tmp_path_factory.mktemp("diffusers")
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, prediction_type="v_prediction")
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder)
    return folder


def at(denoiser, t=27.0):
    x = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    return denoiser.output(x, torch.tensor([t]))


def test_a_folder_of_diffusers_is_opened_with_its_map(pipeline):
    opened = open_model(pipeline)
    assert (opened.target.type_name, opened.condition_map, opened.training) == ("v", ETSDM(), False)
    assert torch.equal(at(opened, 27.0), at(opened, 20.0))
    assert not torch.equal(at(opened, 27.0), at(opened, 40.0))


def test_the_argument_beside_a_map_in_a_config_is_that_of_the_schedule(pipeline, tmp_path):
    folder = shutil.copytree(pipeline, tmp_path / "copy")
    config = json.loads((folder / "unet" / "config.json").read_text())
    for horizon in (1000, 4000):
        argument = {"argument": "timestep", "unit": "timesteps", "horizon": horizon}
        (folder / "unet" / "config.json").write_text(json.dumps({**config, "timestep_argument": argument}))
        if horizon == 1000:
            convert("diffusers", folder, tmp_path / "out")
            assert etsdm.load(tmp_path / "out").condition_map == ETSDM()
    with pytest.raises(CheckpointError, match=r"config\.json: its condition map is in times up to 4000, and the schedule's end at 1000"):
        convert("diffusers", folder, tmp_path / "again")


def test_a_network_of_diffusers_needs_schedule_and_target(pipeline):
    with pytest.raises(PartError, match=r"^schedule: is missing"):
        open_model(pipeline / "unet")
    opened = open_model(pipeline / "unet", model={"schedule": "cosine", "target": "eps"})
    assert opened.schedule.type_name == "cosine"
    with pytest.raises(CheckpointError, match=r"^scheduel: is no field .*schedule"):
        open_model(pipeline / "unet", model={"scheduel": "cosine"})


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_file_of_guided_diffusion_is_opened(network, tmp_path, name):
    file = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(dict(network.state_dict()), file)
    opened = open_model(file, model=GIVEN)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in opened.backbone.state_dict().items())
    assert (opened.condition_map, opened.training) == (Identity(), False)
    assert not any(parameter.requires_grad for parameter in opened.parameters())


def test_half_precision_of_a_file_becomes_single(network, tmp_path):
    torch.save({key: value.half() for key, value in network.state_dict().items()}, tmp_path / "half.pt")
    assert next(open_model(tmp_path / "half.pt", model=GIVEN).backbone.parameters()).dtype == torch.float32


def test_the_condition_map_in_the_metadata_of_a_file_is_the_denoisers(network, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(dict(network.state_dict()), file, metadata=condition_map_metadata(ETSDM(t_tilde=60, n=3)))
    assert open_model(file, model=OF_MAP).condition_map == ETSDM(t_tilde=60, n=3)
    assert open_model(file, model={**OF_MAP, "condition_map": "identity"}).condition_map == Identity()
    report = convert("guided-diffusion", file, tmp_path / "out", Options(model=OF_MAP))
    assert etsdm.load(tmp_path / "out").condition_map == ETSDM(t_tilde=60, n=3)
    assert report.choices["model.condition_map"] == "from the metadata of the file"
    with pytest.raises(CheckpointError, match=r"times up to 1000, .* at 4000; give condition_map"):
        open_model(file, model={**OF_MAP, "schedule": {"type": "cosine", "timesteps": 4000}})


def test_what_is_damaged_or_holds_code_is_refused(network, tmp_path):
    marker = tmp_path / "ran"
    torch.save({"weight": Payload(marker)}, tmp_path / "payload.pt")
    with pytest.raises(IntegrityError, match=r"payload\.pt"):
        open_model(tmp_path / "payload.pt")
    assert not marker.exists()
    whole = tmp_path / "whole.pt"
    torch.save(dict(network.state_dict()), whole)
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:-400])
    with pytest.raises((IntegrityError, CheckpointError), match=r"cut\.pt"):
        open_model(tmp_path / "cut.pt", model=GIVEN)
    torch.save({key: value for key, value in network.state_dict().items() if "out.2" not in key}, tmp_path / "fewer.pt")
    with pytest.raises(CheckpointError, match=r"fewer.pt.*read as a file of guided-diffusion; others need an origin: ldm"):
        open_model(tmp_path / "fewer.pt", model=GIVEN)


def test_options_that_do_not_suit_are_refused(network, tiny_denoiser, tmp_path):
    folder = etsdm.save(tiny_denoiser(), tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"^schedule: a checkpoint of etsdm has its own parts"):
        open_model(folder, model={"schedule": "linear"})
    with pytest.raises(CheckpointError, match=r"^origin: .* is no file; leave it out"):
        open_model(folder, origin="ldm")
    torch.save(dict(network.state_dict()), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"^origin: 'guided' is unknown; .*guided-diffusion"):
        open_model(tmp_path / "model.pt", model=GIVEN, origin="guided")
    for changes in ({"fields": {"schedule": "linear"}}, {"origin": "ldm"}):
        with pytest.raises(PartError, match=f"^{next(iter(changes))}: a denoiser has its own parts; leave it out$"):
            diagnose(tiny_denoiser(), **changes)


def test_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("")
    found = {name: kind_of_model(name) for name in ("runs", "runs/digits", "owner/name", "nothing", "file", "a/b/c")}
    assert found == {
        "runs": "checkpoint",
        "runs/digits": "checkpoint",
        "owner/name": "diffusers",
        "nothing": "checkpoint",
        "file": "file",
        "a/b/c": "checkpoint",
    }


def test_the_command_diagnoses_files_and_folders_of_others(network, pipeline, tmp_path):
    torch.save(dict(network.state_dict()), tmp_path / "model.pt")
    changes = ("schedule={type: linear, timesteps: 50}", "backbone={image_size: 8, num_heads: 1, norm_groups: 4}")
    result = run("diagnose", "model.pt", *changes, "--data", "digits", *FEW, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["model"]["schedule"]["timesteps"] == 50
    result = run("diagnose", pipeline, "--data", "digits", *FEW, "--json", cwd=tmp_path)
    record = json.loads(result.stdout)
    assert (record["verdict"], record["model"]["target"]["type"]) == ("shared", "v")
    result = run("diagnose", pipeline / "unet", "--data", "digits", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: schedule: is missing")
