"""`etsdm run` before anything runs: what it would cost, what is missing, and `recipe validate` of the recipes that are too large here."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from entry_point import rows, run
from PIL import Image

from etsdm.devices import resolve_device
from etsdm.recipe import load_arms
from etsdm.registry import backbones
from etsdm.storage.tensors import write_tensors

RECIPES = Path(__file__).parents[2] / "recipes"
TINY, LATENT = (Path(__file__).parents[1] / "recipes" / f"{name}.yaml" for name in ("tiny", "latent"))


def lines(shown):
    """The text without the spaces at the ends of lines."""
    return re.sub(r" +\n", "\n", shown)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """What a dry run of the large recipe says, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("planned")
    return folder, run("run", RECIPES / "ffhq_large.yaml", "--dry-run", cwd=folder)


def test_a_dry_run_says_what_a_run_costs(planned):
    _, result = planned
    assert (result.returncode, result.stderr) == (0, "")
    table = {title: cell for title, *_, cell in rows(result.stdout)}
    assert table["time at 100 TFLOP/s"].endswith(" days")
    text = " ".join(result.stdout.split())
    if resolve_device("auto").type == "cpu":  # where not even one image is tried, and the note says why
        assert next(cell for title, cell in table.items() if title.startswith("time here")) == "unknown"
        assert re.search(r"no training step was measured; [\d,]+ GFLOP for one image would take [\d,]+ s at \d+ GFLOP/s", text)
    assert "100 TFLOP/s: about a third of an A100's peak in bfloat16" in text
    assert "Training and sampling are in float32" in text
    assert table["baseline"] == table["e-tsdm"] == "to do"
    assert table["parameters"] == "725,956,227"
    flops = float(re.fullmatch(r"(\d\.\d+) T", table["FLOPs of an image, forward"])[1]) * 1e12
    # 32 million images, four forward evaluations each with gradient checkpointing.
    training = re.fullmatch(r"32,000,000 images, ([\d.]+) EFLOP, ([\d.]+) days", table["training"])
    assert float(training[1]) * 1e18 == pytest.approx(32e6 * 4 * flops, rel=1e-3)
    assert float(training[2]) == pytest.approx(32e6 * 4 * flops / 100e12 / 86400, rel=5e-3)
    assert re.fullmatch(r"10,000 images of 1000 calls, [\d.]+ EFLOP, [\d.]+ days", table["sampling"])
    # Weights, gradients, two moments and the average of 725,956,227 parameters in float32; on disk all but the gradients.
    assert table["memory: training state"] == "14.52 GB"
    summary = backbones.create("adm-large").summary(64)
    gigabytes = (summary.checkpointed + summary.peak_recompute) / 1e9
    assert table["memory: activations"] == f"{gigabytes:.4g} GB, with gradient checkpointing"
    assert gigabytes < summary.activations / 1e9 / 4
    assert table["disk: a checkpoint"] == "11.62 GB"
    assert "parameters of the first stage" not in table
    assert "cost of 2 trainings and 2 samplings\n" in lines(result.stdout)


def test_a_dry_run_says_what_is_missing_and_writes_nothing(planned):
    folder, result = planned
    missing = result.stdout[result.stdout.index("missing: ") :]
    assert missing.startswith(f"missing: data.path: {folder}/data/ffhq is no folder\n")
    assert "70,000 PNG files" in missing
    assert list(folder.iterdir()) == []


def test_a_dry_run_as_json_says_the_same(planned):
    folder, shown = planned
    result = run("run", RECIPES / "ffhq_large.yaml", "--dry-run", "--json", cwd=folder)
    found = json.loads(result.stdout)
    assert found["name"] == "ffhq_large"
    assert [{**one, "training": None} for one in found["runs"]] == [
        {"run": arm, "training": None, "train": "to do", "sample": "to do", "evaluate": "to do"} for arm in ("baseline", "e-tsdm")
    ]
    assert len({one["training"] for one in found["runs"]}) == 2
    assert list(found["arms"]) == ["baseline", "e-tsdm"]
    assert found["arms"]["baseline"] == found["arms"]["e-tsdm"]
    cost = found["arms"]["e-tsdm"]
    assert (cost["parameters"], cost["samplings"]["default"]["nfe"], cost["training_state"]) == (725_956_227, 1000, 20 * 725_956_227)
    assert cost["gradient_checkpointing"] is True
    assert shown.stdout.endswith(f"missing: {found['missing']}\n")
    assert list(folder.iterdir()) == []


def test_a_plan_with_nothing_missing_says_so(tmp_path):
    found = json.loads(run("run", TINY, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert found["missing"] is None
    assert "missing" not in run("run", TINY, "--dry-run", cwd=tmp_path).stdout


def test_a_plan_of_one_arm_and_of_some_stages_is_of_these_alone(tmp_path):
    found = json.loads(run("run", TINY, "--arm", "e-tsdm", "--stage", "train", "--dry-run", "--json", cwd=tmp_path).stdout)
    [planned] = found["runs"]
    assert (planned["run"], planned["train"], set(planned)) == ("e-tsdm", "to do", {"run", "training", "train"})
    assert list(found["arms"]) == ["e-tsdm"]


def test_arms_that_cost_different_have_columns_of_their_own(tmp_path):
    result = run("run", TINY, "arms.e-tsdm.sampling.sampler.steps=5", "seeds=[0, 1]", "--dry-run", cwd=tmp_path)
    [sampling] = [row for row in rows(result.stdout) if row[0] == "sampling"]
    assert [cell[: cell.index(" calls")] for cell in sampling[1:]] == ["16 images of 3", "16 images of 5"]
    assert "cost of 4 trainings and 4 samplings\n" in lines(result.stdout)


def test_a_plan_counts_a_shared_training_once_and_every_sampling(tmp_path):
    arms = "arms.fast={model.condition_map: identity, sampling.a.sampler.steps: 2}"
    several = ("sampling.a={}", "sampling.b={sampler: {type: ddim, steps: 5}}", arms)
    result = run("run", TINY, *several, "--dry-run", cwd=tmp_path)
    table = {title: cells for title, *cells in rows(result.stdout)}
    assert table["fast"] == ["with baseline", "to do", "to do"]
    assert [cell[: cell.index(" calls")] for cell in table["sampling a"]] == ["16 images of 3", "16 images of 3", "16 images of 2"]
    assert [cell[: cell.index(" calls")] for cell in table["sampling b"]] == ["16 images of 5"] * 3
    assert "cost of 2 trainings and 6 samplings\n" in lines(result.stdout)
    found = json.loads(run("run", TINY, *several, "--dry-run", "--json", cwd=tmp_path).stdout)
    trainings = {one["run"]: one["training"] for one in found["runs"]}
    assert trainings["fast"] == trainings["baseline"] != trainings["e-tsdm"]


def test_a_plan_with_a_first_stage_counts_it_and_says_that_its_weights_are_missing(tmp_path):
    result = run("run", LATENT, "training.first_stage_weights=vq.safetensors", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0
    [[_, parameters]] = [row for row in rows(result.stdout) if row[0] == "parameters of the first stage"]
    assert int(parameters.replace(",", "")) > 0
    assert f"missing: training.first_stage_weights: {tmp_path}/vq.safetensors is missing; put there" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_without_a_plan_is_refused(tmp_path):
    result = run("run", TINY, "--json", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: --json: prints the plan of --dry-run; give both, or neither\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [(), ("--stage", "train"), ("--arm", "baseline")])
def test_a_run_without_its_data_says_what_to_get_and_where_to_put_it(tmp_path, options):
    result = run("run", RECIPES / "ffhq_large.yaml", *options, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    found, expected, get, prepare, put = result.stderr.splitlines()
    assert found == f"error: data.path: {tmp_path}/data/ffhq is no folder"
    assert expected.startswith("expected in this folder: 70,000 PNG, JPEG or WebP images, of 256x256 pixels or larger")
    assert get == "get FFHQ's folder images1024x1024, 70,000 PNG files, 89.1 GB: see https://github.com/NVlabs/ffhq-dataset"
    assert prepare == "prepare the download with etsdm data prepare images1024x1024 --dataset ffhq --size 256 --out data/ffhq"
    assert put == "put the images there, or name another folder with data.path=FOLDER"
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_part_of_its_data_says_how_much_there_is(tmp_path):
    (tmp_path / "data/ffhq").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(np.zeros((256, 256, 3), np.uint8)).save(tmp_path / f"data/ffhq/{k}.png")
    result = run("run", RECIPES / "ffhq_large.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: data.path: {tmp_path}/data/ffhq holds 3 images, not 70000\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.first_stage_weights=null", "none are given for first stage 'vq'; give a safetensors file of its state dict"),
        ("training.first_stage_weights=vq.safetensors", "{here}/vq.safetensors is missing; put there the weights of first stage 'vq': "),
    ],
)
def test_a_run_without_the_weights_of_its_first_stage_is_refused(tmp_path, override, message):
    result = run("run", LATENT, override, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: training.first_stage_weights: {message.format(here=tmp_path)}")
    assert result.stderr.endswith("in the keys of CompVis/latent-diffusion\n")
    assert list(tmp_path.iterdir()) == []


def test_a_latent_run_is_carried_out_sampled_and_measured(tmp_path):
    write_tensors(tmp_path / "vq.safetensors", load_arms(LATENT).recipes["e-tsdm"].model.build(seed=9).first_stage.state_dict())
    trained = run("run", LATENT, "training.first_stage_weights=vq.safetensors", "--arm", "e-tsdm", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "e-tsdm: evaluate 3/3 metrics" in trained.stdout
    sample = run("sample", "runs/latent/e-tsdm", "-n", 2, "--steps", 2, "--out", "drawn", cwd=tmp_path)
    assert sample.returncode == 0, sample.stderr
    picture = Image.open(tmp_path / "drawn" / "images" / "000001.png")
    assert picture.size == (8, 8)
    assert json.loads(picture.text["protocol"])["denoiser"]["first_stage"]["type"] == "vq"
    measured = run("lipschitz", "runs/latent/e-tsdm", "--images", 2, "--t", "18:21", "--json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    inside, jump, _ = json.loads(measured.stdout)["mean"]
    assert inside == 0 < jump


@pytest.mark.parametrize("name", ["ffhq_normal", "ffhq_large"])
def test_the_papers_recipes_are_valid_and_found_by_name(tmp_path, name):
    result = run("recipe", "validate", name, cwd=tmp_path)
    assert re.fullmatch(r"baseline: valid, fingerprint [0-9a-f]{16}\ne-tsdm: valid, fingerprint [0-9a-f]{16}\n", result.stdout)
    shared = '{"type": "e-tsdm", "t_tilde": 100.0, "n": 5, "share": "condition"}'
    difference = run("recipe", "diff", f"{name}:baseline", f"{name}:e-tsdm", cwd=tmp_path).stdout
    assert difference == f'model.condition_map: {{"type": "identity"}} -> {shared}\n'
