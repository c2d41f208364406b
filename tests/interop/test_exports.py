"""Exports: what comes back by a conversion, and what a format does not hold."""

import json
import re
import subprocess
import sys

import pytest
import torch
from entry_point import run
from foreign import LucidrainsUnet, filled, lucidrains_file
from layouts import LAYOUTS, made
from safetensors import safe_open

import etsdm
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop import Options, comparison, convert, export_denoiser


def loaded(layout, mapped, folder):
    """The denoiser of a layout from a checkpoint of its own, the format it is exported to, fields given, and its network if external."""
    if layout != "lucidrains":
        _, given, holds_map = LAYOUTS[layout]
        ours = made(layout, mapped)
        given = given if holds_map else {**given, "condition_map": ours.condition_map.model_dump(mode="json")}
        return etsdm.load(etsdm.save(ours, folder / "own")), layout, given, {}
    torch.save(lucidrains_file(filled(LucidrainsUnet(), 1), filled(LucidrainsUnet(), 2)), folder / "model-1.pt")
    model = {"target": "v", "backbone": {"image_size": 8}, **({"condition_map": "e-tsdm"} if mapped else {})}
    convert("lucidrains", folder / "model-1.pt", folder / "own", Options(model=model))
    return etsdm.load(folder / "own", backbone=LucidrainsUnet()), "safetensors", {}, {"backbone": LucidrainsUnet()}


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "identity"])
@pytest.mark.parametrize("layout", [*LAYOUTS, "lucidrains"])
def test_every_layout_comes_back_bit_by_bit(tmp_path, layout, mapped):
    ours, to, given, network = loaded(layout, mapped, tmp_path)
    report = export_denoiser(ours, tmp_path / "out", to)
    warned = mapped and layout in LAYOUTS and not LAYOUTS[layout][2]
    assert any(line.startswith("condition map") for line in report.left_out) == warned
    assert report.parity["tensors_identical"]
    convert(to, tmp_path / "out", tmp_path / "back", Options(model=given))
    back = etsdm.load(tmp_path / "back", **network)
    if network:
        assert (back.schedule, back.target, back.condition_map, back.shape) == (ours.schedule, ours.target, ours.condition_map, ours.shape)
    else:
        assert back.spec == ours.spec
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in ours.state_dict().items())
    assert back.state_dict().keys() == ours.state_dict().keys()
    labels = {"y": torch.tensor([0, 2])} if ours.num_classes else {}
    images = etsdm.sample(ours, 2, steps=4, **labels)
    assert images.std() > 0.01
    torch.testing.assert_close(etsdm.sample(back, 2, steps=4, **labels), images, atol=1e-5, rtol=0)


def test_a_safetensors_file_has_specification_and_map_in_its_metadata(tmp_path):
    ours = made("safetensors")
    export_denoiser(ours, tmp_path / "one.safetensors", "safetensors")
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["etsdm.condition_map"]) == ours.condition_map.model_dump(mode="json")
    assert etsdm.DenoiserSpec.model_validate(json.loads(metadata["etsdm.denoiser"])) == ours.spec
    torch.save({"w": torch.ones(1)}, tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match=r"plain\.pt: its metadata have no etsdm\.denoiser"):
        convert("safetensors", tmp_path / "plain.pt", tmp_path / "back")


def test_a_file_with_other_tensors_is_refused_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison.torch, "equal", lambda *tensors: False)
    for to in ("guided-diffusion", "safetensors"):
        with pytest.raises(IntegrityError, match=rf"^{tmp_path}/out: tensor '.*' has other values than in its source"):
            export_denoiser(made(to), tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("of", "to", "message"),
    [
        ("ldm", "guided-diffusion", r"to guided-diffusion: backbone: 'ldm-unet' is another network"),
        ("guided-diffusion", "ldm", r"to ldm: backbone: 'adm-unet' is another network"),
        ("guided-diffusion", "dit", r"to dit: backbone: 'adm-unet' is another network"),
        ("dit", "edm", r"to edm: backbone: 'dit' is another network"),
        ("dit", "diffusers", r"to diffusers: backbone: 'dit' has no counterpart"),
        ("ldm", "diffusers", r"to diffusers: first_stage: "),
        ("dit", "pickle", r"to: 'pickle' is unknown; known: diffusers"),
    ],
)
def test_other_networks_are_refused(tmp_path, of, to, message):
    with pytest.raises(CheckpointError, match=message):
        export_denoiser(made(of), tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_path_and_what_is_no_denoiser_are_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"exists and is not overwritten"):
        export_denoiser(made("dit"), tmp_path, "dit")
    with pytest.raises(CheckpointError, match=r"found a Linear, which has no weights of its own"):
        export_denoiser(torch.nn.Linear(1, 1), tmp_path / "out", "dit")


def test_the_command_exports_and_warns(tmp_path):
    etsdm.save(made("guided-diffusion"), tmp_path / "checkpoint")
    done = run("export", tmp_path / "checkpoint", "--to", "guided-diffusion", "--out", tmp_path / "model.pt")
    assert done.returncode == 0
    assert "equal to the source's bit by bit\n" in done.stdout
    assert "warning: not in the file: condition map 'e-tsdm': guided-diffusion has no place for it" in done.stderr
    assert "out.2.bias" in torch.load(tmp_path / "model.pt", weights_only=True)
    found = run("export", tmp_path / "checkpoint", "--to", "safetensors", "--out", tmp_path / "one.safetensors", "--json")
    record = json.loads(found.stdout)
    assert (record["out"], record["to"], record["left_out"]) == (str(tmp_path / "one.safetensors"), "safetensors", [])
    assert record["parity"] == {"tensors": len(etsdm.load(tmp_path / "checkpoint").backbone.state_dict()), "tensors_identical": True}
    wrong = run("export", tmp_path / "checkpoint", "--to", "diffuser", "--out", tmp_path / "x")
    assert wrong.returncode == 2
    assert "to: 'diffuser' is unknown; did you mean 'diffusers'?" in wrong.stderr


@pytest.mark.parametrize("to", ["ldm", "torch-export", "safetensors", "diffusers"])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, to):
    etsdm.save(made("diffusers" if to == "diffusers" else "ldm"), tmp_path / "checkpoint")
    program = "import resource; from etsdm.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000,) * 2); main()"
    command = [sys.executable, "-c", program, "export", "checkpoint", "--to", to, "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: out\S*: file too large; raise the limit on the size of files .*\n", done.stderr)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
