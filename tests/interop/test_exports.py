"""Exports: what comes back by a conversion, graphs, and what a format does not hold."""

import json
from importlib.util import find_spec

import pytest
import torch
from entry_point import run
from foreign import filled
from safetensors import safe_open

import etsdm
from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.backbones.dit import DiT
from etsdm.backbones.first_stages.kl import KLAutoencoder
from etsdm.backbones.song import SongUNet
from etsdm.errors import CheckpointError, EtsdmError, IntegrityError
from etsdm.interop import Options, convert, export_denoiser

UNET = {"image_size": 8, "model_channels": 16, "num_res_blocks": 1, "attention_resolutions": (2,), "channel_mult": (1, 2), "norm_groups": 8}
UNET |= {"num_head_channels": 8}
STAGE = KLAutoencoder(
    resolution=16, in_channels=1, out_ch=1, ch=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), z_channels=2, norm_groups=4
)
GIVEN = {"backbone": {"image_size": 8, "num_head_channels": 8, "norm_groups": 8}}

# Format; parts of the denoiser; fields that the format does not hold; whether a sentence says that the map is left out.
LAYOUTS = {
    "guided-diffusion": (
        {"schedule": "linear", "backbone": ADMUNet(**UNET, in_channels=1, out_channels=2, num_classes=3)},
        {"schedule": "linear", "condition_map": "e-tsdm", **GIVEN},
        True,
    ),
    "ldm": (
        {"schedule": "ldm", "backbone": LDMUNet(**UNET, in_channels=2, out_channels=2), "first_stage": STAGE},
        {"condition_map": "e-tsdm", "first_stage": {"norm_groups": 4, "embed_dim": None}, **GIVEN},
        True,
    ),
    "dit": (
        {
            "schedule": "linear",
            "backbone": DiT(image_size=8, in_channels=1, out_channels=2, patch_size=2, hidden_size=24, depth=1, num_heads=3, num_classes=3),
        },
        {"condition_map": "e-tsdm", "first_stage": None, "backbone": {"num_heads": 3}},
        True,
    ),
    "edm": (
        {
            "schedule": "edm",
            "target": {"type": "edm", "sigma_data": 0.4},
            "condition_map": "identity",
            "backbone": SongUNet(
                image_size=8, in_channels=1, out_channels=1, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,)
            ),
        },
        {},
        False,
    ),
    "safetensors": (
        {"schedule": "ldm", "backbone": LDMUNet(**UNET, in_channels=2, out_channels=2), "first_stage": STAGE},
        {},
        False,
    ),
}


def made(to):
    """A denoiser for a format."""
    built = etsdm.DenoiserSpec(**{"condition_map": "e-tsdm", **LAYOUTS[to][0]}).build().eval().requires_grad_(False)
    filled(built.backbone)
    if built.first_stage is not None:
        filled(built.first_stage)
    return built


@pytest.mark.parametrize("to", LAYOUTS)
def test_every_layout_comes_back_bit_by_bit(tmp_path, to):
    ours, (_, given, warned) = made(to), LAYOUTS[to]
    left_out = export_denoiser(ours, tmp_path / "out", to)
    assert any("condition map 'e-tsdm'" in line for line in left_out) == warned
    convert(to, tmp_path / "out", tmp_path / "back", Options(model=given))
    back = etsdm.load(tmp_path / "back")
    assert back.spec == ours.spec
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in ours.state_dict().items())
    labels = {"y": torch.tensor([0, 2])} if ours.num_classes else {}
    torch.testing.assert_close(etsdm.sample(back, 2, steps=4, **labels), etsdm.sample(ours, 2, steps=4, **labels), atol=1e-5, rtol=0)


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


@pytest.mark.parametrize("to", ["guided-diffusion", "edm"])
def test_a_program_of_torch_export_has_the_condition_map_and_any_batch(tmp_path, to):
    ours = made(to)
    assert export_denoiser(ours, tmp_path / "network.pt2", "torch-export") == []
    program = torch.export.load(tmp_path / "network.pt2").module()
    t = torch.tensor([0.3, 19.0, 20.0, 39.9, 70.0])
    labels = {} if ours.num_classes is None else {"y": torch.tensor([0, 1, 2, 0, 1])}
    for batch in (1, 5):
        x = torch.linspace(-2, 2, 64 * batch).reshape(batch, 1, 8, 8)
        cond = {key: value[:batch] for key, value in labels.items()}
        torch.testing.assert_close(program(x, t[:batch], *cond.values()), ours.output(x, t[:batch], **cond), atol=1e-5, rtol=1e-4)


def test_onnx_needs_its_libraries_and_says_so(tmp_path):
    if find_spec("onnx") and find_spec("onnxscript"):
        pytest.skip("onnx is installed")
    with pytest.raises(EtsdmError, match=r"^onnx(script)?: is not installed, and an export to onnx needs it; pip install onnx onnxscript$"):
        export_denoiser(made("guided-diffusion"), tmp_path / "network.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_model_has_the_condition_map(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    ours = made("guided-diffusion")
    export_denoiser(ours, tmp_path / "network.onnx", "onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    inputs = torch.linspace(-2, 2, 192).reshape(3, 1, 8, 8), torch.tensor([0.0, 39.0, 500.0]), torch.tensor([0, 1, 2])
    (out,) = session.run(None, {entry.name: value.numpy() for entry, value in zip(session.get_inputs(), inputs, strict=True)})
    torch.testing.assert_close(torch.from_numpy(out), ours.output(inputs[0], inputs[1], y=inputs[2]), atol=1e-4, rtol=1e-4)


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
    assert "warning: not in the file: condition map 'e-tsdm': guided-diffusion has no place for it" in done.stderr
    assert "out.2.bias" in torch.load(tmp_path / "model.pt", weights_only=True)
    found = run("export", tmp_path / "checkpoint", "--to", "safetensors", "--out", tmp_path / "one.safetensors", "--json")
    assert json.loads(found.stdout) == {"out": str(tmp_path / "one.safetensors"), "to": "safetensors", "left_out": []}
    wrong = run("export", tmp_path / "checkpoint", "--to", "diffuser", "--out", tmp_path / "x")
    assert wrong.returncode == 2
    assert "to: 'diffuser' is unknown; did you mean 'diffusers'?" in wrong.stderr
