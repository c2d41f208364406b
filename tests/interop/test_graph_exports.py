"""Graphs of networks for ONNX and torch.export, condition map included, under their own runtimes."""

import json

import onnx
import onnxruntime
import pytest
import torch
from entry_point import run
from layouts import SONG, built
from small_adm import SMALL

import etsdm
from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.backbones.dit import DiT
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop import comparison, export_denoiser
from etsdm.interop.export import graph
from etsdm.registry import optional

UNET = {**SMALL, "model_channels": 8, "channel_mult": (1,), "attention_resolutions": (), "norm_groups": 4, "num_head_channels": 4}
DIT = {"image_size": 8, "in_channels": 1, "out_channels": 2, "patch_size": 4, "hidden_size": 12, "depth": 1, "num_heads": 2}
LINEAR = {"schedule": "linear", "condition_map": "e-tsdm"}
NETWORKS = {
    "unet-classes-variance": {**LINEAR, "target": "v", "backbone": ADMUNet(**{**UNET, "out_channels": 2, "num_classes": 3})},
    "unet-super-resolution": {**LINEAR, "super_resolution": {"factor": 2}, "backbone": ADMUNet(**{**UNET, "in_channels": 2})},
    "unet-context": {**LINEAR, "backbone": LDMUNet(**UNET, use_spatial_transformer=True, context_dim=6)},
    "dit-variance": {**LINEAR, "backbone": DiT(**DIT)},
    "edm": {"schedule": "edm", "target": "edm", "condition_map": "edm-vp-equivalent", "backbone": SONG},
}
SMALLEST = {**LINEAR, "backbone": {"type": "mlp", "image_size": 8, "in_channels": 1, "out_channels": 1}}
INPUTS = {"x": "noisy", "t": "true times", "y": "labels, from 0 to 2", "context": "context", "low_res": "low-resolution"}


def edges_of(denoiser):
    """Times on, below and above every edge of the condition map, and the last time."""
    edges = torch.tensor(denoiser.condition_map.sub_intervals.edges, dtype=torch.float64)
    near = torch.diff(edges).min() / 100
    low, high = denoiser.schedule.t_min, denoiser.schedule.domain[1]
    return torch.cat([edges - near, edges, edges + near, torch.tensor([high], dtype=torch.float64)]).clamp(low, high).float()


def inputs_of(denoiser):
    """Inputs at those times."""
    t, generator = edges_of(denoiser), torch.Generator().manual_seed(0)
    inputs = {"x": torch.randn(len(t), 1, 8, 8, generator=generator), "t": t}
    if denoiser.num_classes:
        inputs["y"] = torch.arange(len(t)) % 3
    if getattr(denoiser.spec.backbone, "takes_context", False):
        inputs["context"] = torch.randn(len(t), 5, 6, generator=generator)
    if denoiser.spec.super_resolution:
        inputs["low_res"] = torch.randn(len(t), 1, 4, 4, generator=generator)
    return inputs


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", NETWORKS)
def test_an_onnx_model_is_the_network_at_the_true_time(tmp_path, name):
    ours = built(**NETWORKS[name]).train()
    report = export_denoiser(ours, tmp_path / "network.onnx", "onnx")
    assert report.left_out == []
    assert report.parity["compared_with"] == "onnxruntime"
    assert report.parity["largest_difference"] < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    assert ours.training
    opened, inputs = session(tmp_path / "network.onnx"), inputs_of(ours)
    shapes = {entry.name: entry.shape for entry in opened.get_inputs()}
    free = {"x": ["batch", 1, 8, 8], "t": ["batch"], "y": ["batch"], "context": ["batch", "tokens", 6], "low_res": ["batch", 1, 4, 4]}
    assert shapes == {key: free[key] for key in inputs}
    with torch.no_grad():
        expected = ours.eval().output(**inputs)
    for rows in (slice(None), slice(1)):
        (found,) = opened.run(["output"], {key: value[rows].numpy() for key, value in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(found), expected[rows], atol=1e-5, rtol=0)
    same = {key: value[:1].expand(3, *value.shape[1:]).contiguous() for key, value in inputs.items()}
    edges = ours.condition_map.sub_intervals.edges
    same["t"] = torch.tensor([edges[1], (edges[1] + edges[2]) / 2, edges[2]])
    (found,) = opened.run(["output"], {key: value.numpy() for key, value in same.items()})
    if ours.schedule.type_name == "linear":  # c_in is 1, so that the condition alone depends on t
        assert abs(found[0] - found[1]).max() == 0
    assert abs(found[0] - found[2]).max() > 1e-4
    model = onnx.load(tmp_path / "network.onnx")
    assert all(entry.doc_string.startswith(INPUTS[entry.name]) for entry in model.graph.input)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert etsdm.DenoiserSpec.model_validate(metadata["etsdm.denoiser"]) == ours.spec
    assert metadata["etsdm.condition_map"] == ours.condition_map.model_dump(mode="json")


@pytest.mark.parametrize("name", ["unet-classes-variance", "dit-variance"])
def test_a_program_of_torch_export_is_the_network_at_the_true_time(tmp_path, name):
    ours = built(**NETWORKS[name])
    assert export_denoiser(ours, tmp_path / "network.pt2", "torch-export").parity["largest_difference"] < 1e-5
    entries, inputs = {"etsdm.condition_map": ""}, inputs_of(ours)
    program = torch.export.load(tmp_path / "network.pt2", extra_files=entries).module()
    assert json.loads(entries["etsdm.condition_map"])["type"] == ours.condition_map.type_name
    for rows in (slice(None), slice(1)):
        given = {key: value[rows] for key, value in inputs.items()}
        torch.testing.assert_close(program(**given), ours.output(**given), atol=1e-5, rtol=0)


def test_large_weights_are_in_a_second_file_and_both_appear_or_none(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "LARGEST_MODEL", 0)
    ours, path = built(**SMALLEST), tmp_path / "network.onnx"
    export_denoiser(ours, path, "onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["network.onnx", "network.onnx.data"]
    assert path.with_name("network.onnx.data").stat().st_size > path.stat().st_size
    inputs = inputs_of(ours)
    (found,) = session(path).run(None, {key: value.numpy() for key, value in inputs.items()})
    torch.testing.assert_close(torch.from_numpy(found), ours.output(**inputs), atol=1e-5, rtol=0)
    path.unlink()
    with pytest.raises(IntegrityError, match=r"network\.onnx\.data: exists and is not overwritten"):
        export_denoiser(ours, path, "onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx.data"]


def test_a_graph_with_another_output_is_refused_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(IntegrityError, match=r"network: outputs of torch\.export and the network differ by .*safetensors"):
        export_denoiser(built(**SMALLEST), tmp_path / "network", "torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, library):
    find_spec = optional.find_spec
    monkeypatch.setattr(optional, "find_spec", lambda name: None if name == library else find_spec(name))
    etsdm.save(built(**SMALLEST), tmp_path / "checkpoint")
    done = run("export", tmp_path / "checkpoint", "--to", "onnx", "--out", tmp_path / "network.onnx")
    assert done.returncode == 2
    assert done.stderr == f"error: {library}: is not installed, and an export to onnx needs it; pip install 'etsdm[onnx]'\n"
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_a_network_without_a_graph_is_named(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x, time):
            return x if time.sum() > 0 else -x

    denoiser = etsdm.wrap(Odd(), schedule="linear", target="eps", shape=(1, 8, 8))
    for to in ("onnx", "torch-export"):
        with pytest.raises(CheckpointError, match=rf"to {to}: backbone: 'external' has no graph \(.*\); export to safetensors"):
            export_denoiser(denoiser, tmp_path / "network", to)
    assert list(tmp_path.iterdir()) == []
