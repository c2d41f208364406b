"""`etsdm lipschitz` as a person uses it: what it prints and writes, and what it refuses."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from entry_point import rows, run
from PIL import Image

import etsdm
from etsdm.analysis import lipschitz_curve
from etsdm.checkpoints import checkpoint_folder
from etsdm.data import Digits

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"


def command(*arguments, cwd="."):
    return run("lipschitz", *arguments, cwd=cwd)


def facts(*arguments, cwd="."):
    result = command(*arguments, "--json", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the arms of the tiny recipe are trained."""
    folder = tmp_path_factory.mktemp("trained")
    etsdm.build(TINY, out=folder / "runs").train()
    return folder


def test_the_exact_optimum_of_m1_has_the_known_curve_per_unit_of_time(tmp_path):
    # 1000 K(i, i+1) of mixture m1 on the linear schedule: integrals of |eps*(x, i) - eps*(x, i+1)| over the density of x at i.
    known = {0: 6.950, 1: 5.938, 5: 4.897, 10: 4.537, 20: 4.089, 50: 2.701, 99: 2.346, 200: 2.412, 500: 0.5074, 900: 0.01043}
    found = facts("--exact", "m1", "--schedule", "linear", "--t", ",".join(map(str, known)), cwd=tmp_path)
    assert found["unit"] == "per unit of time"
    assert (found["images"], found["mode"], found["dt"], found["t"]) == (20_000, "shared-x", 1, list(known))
    for mean, se, expected in zip(found["mean"], found["se"], known.values(), strict=True):
        assert abs(mean - expected) < 4 * se
        assert se < 0.01 * expected
    assert list(tmp_path.iterdir()) == []  # JSON goes to the terminal alone


def test_the_exact_optimum_under_e_tsdm_jumps_at_its_edges_only():
    # Integrals as above, of the difference between the averages of eps* over neighbouring sub-intervals.
    known = {19: 83.05, 39: 63.99, 59: 47.48, 79: 44.44, 99: 24.06}
    found = facts("--exact", "m1", "--condition-map", "e-tsdm", "--t", "0:100", "--images", 4000)
    assert (found["curve"], list(found["curves"])) == ("e-tsdm", ["identity", "e-tsdm"])
    assert [t for t, mean in zip(found["t"], found["mean"], strict=True) if mean] == list(known)
    for t, expected in known.items():
        assert abs(found["mean"][t] - expected) < 4 * found["se"][t]
    assert found["mean"] == found["curves"]["e-tsdm"]["mean"]
    assert min(found["curves"]["identity"]["mean"]) > 2


def test_all_steps_are_measured_of_an_exact_optimum():
    found = facts("--exact", "normal", "--images", 10)
    assert found["t"] == list(range(999))
    short = "{type: linear, timesteps: 50}"
    assert facts("--exact", "normal", "--images", 10, "--schedule", short, "--dt", 5)["t"] == list(range(45))
    continuous = facts("--exact", "normal", "--images", 2, "--schedule", "linear-continuous")
    assert continuous["t"] == pytest.approx([k / 1000 for k in range(1, 1000)])


def test_parts_are_names_or_mappings():
    schedule, condition = "{type: linear, timesteps: 50}", "{type: e-tsdm, t_tilde: 10, n: 2}"
    found = facts("--exact", "m2", "--schedule", schedule, "--condition-map", condition, "--target", "v", "--images", 20)
    assert [t for t, mean in zip(found["t"], found["mean"], strict=True) if mean == 0] == [0, 1, 2, 3, 5, 6, 7, 8]
    described = found["protocol"]["measured"]["e-tsdm"]
    assert (described["schedule"]["timesteps"], described["target"]["type"], described["condition_map"]["n"]) == (50, "v", 2)


def test_values_per_step_are_a_thousandth():
    time, step = (facts("--exact", "m1", "--t", "5:8", "--images", 50, "--unit", unit) for unit in ("time", "step"))
    assert step["unit"] == "per step"
    assert time["mean"] == pytest.approx([1000 * mean for mean in step["mean"]])


def test_times_are_a_range_or_a_list():
    for text, expected in (("3:6", [3, 4, 5]), ("0:1:0.25", [0, 0.25, 0.5, 0.75]), ("7,2.5", [7, 2.5])):
        assert facts("--exact", "normal", "--images", 2, "--t", text)["t"] == expected
    # Thousandths of a continuous schedule, none too many by a rounding.
    found = facts("--exact", "normal", "--images", 2, "--schedule", "linear-continuous", "--t", "0.001:0.3")
    assert found["t"] == pytest.approx([k / 1000 for k in range(1, 300)])


def test_a_maximum_has_no_standard_error():
    found = facts("--exact", "m1", "--images", 20, "--t", "3,4", "--mode", "max")
    assert found["se"] == [None, None]
    assert all(found["mean"])


def test_table_file_and_figure_show_baseline_and_map(tmp_path):
    arguments = ("--exact", "m1", "--condition-map", "e-tsdm", "--t", "0:102", "--images", 200, "--out", "figures")
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    cells = rows(result.stdout)
    assert [row[0] for row in cells] == ["0", "1", "2", "3", "4", "5", "10", "19", "20", "39", "50", "59", "79", "99", "100", "101"]
    assert [row[2] == "0" for row in cells] == [row[0] not in ("19", "39", "59", "79", "99", "100", "101") for row in cells]
    assert result.stdout.splitlines()[-2:] == ["figures/lipschitz.csv", "figures/lipschitz.png"]
    lines = (tmp_path / "figures/lipschitz.csv").read_text().splitlines()
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [row["curve"] for row in table] == ["identity"] * 102 + ["e-tsdm"] * 102
    comments = dict(line[2:].split(": ", 1) for line in lines if line.startswith("#"))
    assert (comments["images"], comments["seed"], comments["mode"], comments["dt"]) == ("200", "0", '"shared-x"', "1.0")
    picture = Image.open(tmp_path / "figures/lipschitz.png").convert("RGB")
    colours = {colour for count, colour in picture.getcolors(picture.width * picture.height) if count > 50}
    # Both lines, and the shade of the sub-intervals.
    assert {(0x3B, 0x6E, 0xA5), (0xC8, 0x55, 0x3D)} <= colours
    assert any(len(set(colour)) == 1 and 230 < colour[0] < 250 for colour in colours)


def test_a_checkpoint_is_measured_on_the_training_images_of_its_run(trained):
    found = facts("runs/tiny/e-tsdm", "--t", "17:41", "--images", 3, "--seed", 4, "--unit", "step", cwd=trained)
    denoiser = etsdm.load(trained / "runs/tiny/e-tsdm")
    expected = lipschitz_curve(denoiser, Digits().open("train").pixels[:3], range(17, 41), seed=4)
    assert found["mean"] == pytest.approx(expected.mean.tolist(), rel=1e-5)
    assert [t for t, mean in zip(found["t"], found["mean"], strict=True) if mean] == [19, 39]
    assert (found["curve"], list(found["curves"])) == ("runs/tiny/e-tsdm", ["runs/tiny/e-tsdm"])
    described = found["protocol"]["measured"]["runs/tiny/e-tsdm"]
    assert (described["data"]["type"], described["images"]) == ("digits", Digits().open("train").batch(range(3)).digest())
    by_number = facts(
        checkpoint_folder(trained / "runs/tiny/e-tsdm"), "--t", "19", "--images", 3, "--seed", 4, "--unit", "step", cwd=trained
    )
    assert by_number["mean"] == pytest.approx([found["mean"][2]])


def test_a_checkpoint_alone_needs_its_data_named(trained, tmp_path):
    shutil.copytree(checkpoint_folder(trained / "runs/tiny/baseline"), tmp_path / "alone")
    result = command("alone", cwd=tmp_path)
    assert result.returncode == 2
    expected = "error: alone: has no recipe.yaml beside it that names its data; give --data (`etsdm parts datasets`)\n"
    assert result.stderr == expected
    assert facts("alone", "--data", "digits", "--t", "3", "--images", 2, cwd=tmp_path)["mean"][0] > 0


def test_a_recipe_is_measured_arm_by_arm(trained):
    result = command(TINY, "--t", "0:41", "--images", 2, cwd=trained)
    assert result.returncode == 0, result.stderr
    header = next(line for line in result.stdout.splitlines() if line.startswith("┃"))
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == ["t", "baseline", "e-tsdm"]
    found = facts(TINY, "--t", "0:41", "--images", 2, cwd=trained)
    # The recipe as it is written is its arm e-tsdm.
    assert (found["curve"], list(found["curves"])) == ("e-tsdm", ["baseline", "e-tsdm"])
    assert [t for t, mean in zip(found["t"], found["mean"], strict=True) if mean] == [19, 39]
    assert min(found["curves"]["baseline"]["mean"]) > 0


def test_an_arm_that_is_not_trained_says_what_to_run(trained, tmp_path):
    result = command(TINY, "training.images=640", cwd=trained)
    message = f"is not trained in runs/tiny/baseline; run `etsdm run {TINY} training.images=640 --arm baseline --stage train` first"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: baseline: {message}\n")
    elsewhere = command(TINY, "--runs", "other", cwd=tmp_path)
    assert elsewhere.stderr.endswith(f"run `etsdm run {TINY} --out other --arm baseline --stage train` first\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to measure; give a checkpoint, a recipe, or --exact with a mixture"),
        (("digits", "--exact", "m1"), "digits: --exact measures samples of its mixture; leave it out"),
        (("--exact", "m3"), "--exact: 'm3' is no mixture; mixtures: m1, m2, normal"),
        (("--exact", "m1", "--schedule", "liner"), "--schedule: unknown schedule 'liner'; did you mean 'linear'?"),
        (("--exact", "m1", "--schedule", "{type: linear, timesteps: 0}"), "--schedule.timesteps: found 0; give a value above 0"),
        (("--exact", "m1", "--schedule", "{type: linear"), "--schedule: "),
        (("--exact", "m1", "--condition-map", "{type: e-tsdm, n: 0}"), "--condition-map.n: found 0; give a value above 0"),
        (
            ("--exact", "m1", "--condition-map", "{type: e-tsdm, t_tilde: 2000}"),
            "--condition-map.t_tilde: 2000 is beyond the schedule's horizon; give 1000 or less",
        ),
        (("--exact", "m1", "--mode", "shared"), "--mode: 'shared' is no mode; did you mean 'shared-x'?"),
        (("--exact", "m1", "--unit", "steps"), "--unit: 'steps' is no unit; did you mean 'step'?"),
        (("--exact", "m1", "--t", "0:x"), "--t: '0:x' are no times; give 0:200, 0:0.2:0.001 or 0,5,10"),
        (("--exact", "m1", "--t", "5:5"), "--t: '5:5' are no times; give 0:200, 0:0.2:0.001 or 0,5,10"),
        (("--exact", "m1", "--t", "-1"), "--t: -1 is outside the times of schedule 'linear'; give t in [0, 999]"),
        (
            ("--exact", "m1", "--t", "0:1000"),
            "--t: 999 has its neighbour at 1000, outside the times of schedule 'linear'; give t in [0, 998], or a smaller dt",
        ),
        (("--exact", "m1", "--dt", "-2"), "--dt: -2 is no distance inside the schedule's horizon; give a value above 0 and below 1000"),
        (("--exact", "m1", "--data", "digits"), "--data: --exact measures samples of its mixture; leave it out"),
        (("digits", "--schedule", "cosine"), "--schedule: a trained denoiser has its own; leave it out"),
        (("digits", "--data", "digits"), "--data: the recipe names its data; leave it out"),
        (("digit",), "no recipe 'digit'; did you mean 'digits'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_message_and_exit_code_2(tmp_path, arguments, message):
    result = command(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    result = command(tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path}: holds neither denoiser.json nor checkpoints")


def test_help_does_not_import_torch():
    probe = "import sys, etsdm.cli.app as m; m.app(['lipschitz', '--help'], standalone_mode=False); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "--condition-map" in result.stdout
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(("name", "begins"), [("k.csv", b"# mode"), ("k.svg", b"<?xml"), ("k.pdf", b"%PDF"), ("k.png", b"\x89PNG")])
def test_out_may_be_one_file_of_a_format(tmp_path, name, begins):
    result = command("--exact", "m1", "--t", "0:5", "--images", 50, "--out", name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_file_of_another_format_is_refused_before_measuring(tmp_path):
    result = command("--exact", "m1", "--out", "k.jpg", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --out: 'jpg' is no format of a file; ")
    assert list(tmp_path.iterdir()) == []


def test_several_checkpoints_share_a_figure(trained):
    found = facts("runs/tiny/baseline", "runs/tiny/e-tsdm", "--t", "0:30", "--images", 2, cwd=trained)
    assert list(found["curves"]) == ["runs/tiny/baseline", "runs/tiny/e-tsdm"]
    assert found["curve"] == "runs/tiny/baseline"
    alone = facts("runs/tiny/e-tsdm", "--t", "0:30", "--images", 2, cwd=trained)
    assert found["curves"]["runs/tiny/e-tsdm"]["mean"] == alone["mean"]
    twice = command("runs/tiny/baseline", "runs/tiny/baseline", cwd=trained)
    assert twice.returncode == 2
    assert "given twice" in twice.stderr
