"""Data of another scale in whole runs: one warning for all arms, a refusal before the first step, and what is recorded."""

import json
import sys
from pathlib import Path

import pytest
import torch

import etsdm
from etsdm.cli.app import main
from etsdm.storage.tensors import write_tensors

LATENT = Path(__file__).parents[1] / "recipes" / "latent.yaml"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the first stage of latent.yaml, whose latents of the digits have mean 0 and standard deviation 4 in each channel."""
    file = tmp_path_factory.mktemp("weights") / "vq.safetensors"
    experiment = etsdm.build(LATENT)
    network = experiment.recipe.model.build(seed=77).first_stage
    state = network.state_dict()
    with torch.no_grad():
        z = network.encode(experiment.recipe.data.open("train").pixels).transpose(0, 1).flatten(1)
        mean, std = z.mean(1), z.std(1)
        state["quant_conv.weight"] *= (4 / std).view(-1, 1, 1, 1)
        state["quant_conv.bias"] = (state["quant_conv.bias"] - mean) * 4 / std
    write_tensors(file, state)
    return file


def run(monkeypatch, capsys, *arguments):
    """`etsdm run` in this process. Returns: the exit code, and the lines on stderr."""
    monkeypatch.setattr(sys, "argv", ["etsdm", "run", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("jobs", [1, 2])
def test_latents_of_another_scale_are_warned_of_once_and_recorded(weights, tmp_path, monkeypatch, capsys, jobs):
    given = (LATENT, f"training.first_stage_weights={weights}", f"compute.jobs={jobs}", "--stage", "train", "--out", tmp_path)
    code, lines = run(monkeypatch, capsys, *given)
    assert code == 0
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    factor = float(warning.rpartition("set model.first_stage.scale_factor: ")[2])
    assert factor == pytest.approx(0.25, rel=0.05)
    records = [json.loads(file.read_text())["facts"] for file in tmp_path.glob("latent/trainings/*/stage.json")]
    assert len(records) == 2
    for facts in records:
        assert facts["data_scale"]["n"] == 256
        assert facts["data_scale"]["latents"]["std"] == pytest.approx(4, rel=0.05)
        assert facts["data_scale"]["latents"]["channel_means"] == pytest.approx([0, 0], abs=0.3)


def test_latents_far_from_any_scale_are_refused_before_the_first_step(weights, tmp_path, monkeypatch, capsys):
    given = (LATENT, f"training.first_stage_weights={weights}", "model.first_stage.scale_factor=20", "--out", tmp_path)
    code, lines = run(monkeypatch, capsys, *given)
    assert code == 2
    assert "model.first_stage: latents have standard deviation 8" in lines[-1]
    assert float(lines[-1].rpartition("set model.first_stage.scale_factor: ")[2]) == pytest.approx(0.25, rel=0.05)
    assert not list(tmp_path.glob("latent/trainings/*/checkpoints/*"))
