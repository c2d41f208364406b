"""The command line as a person uses it: what it prints, and its exit code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from entry_point import rows, run

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
DIGITS = Path(__file__).parents[2] / "recipes" / "digits.yaml"

GOOD = """\
extends: base.yaml
training:
  images: 64
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD + "  lerning_rate: 1e-3\n",
            "training.lerning_rate: unknown field; did you mean 'learning_rate'? (bad.yaml:4)",
        ),
        (
            GOOD + "model:\n  schedule: liner\n",
            "model.schedule: unknown schedule 'liner'; did you mean 'linear'? (bad.yaml:5)",
        ),
        (
            GOOD + "model:\n  condition_map:\n    type: e-tsdm\n    n: 0\n",
            "model.condition_map.n: found 0; give a value above 0 (bad.yaml:7)",
        ),
        (
            GOOD + "  batch_size: [32]\n",
            "training.batch_size: found [32]; give an integer (bad.yaml:4)",
        ),
        (
            GOOD + "\tbatch_size: 32\n",
            "a tab in the indentation; use spaces (bad.yaml:4)",
        ),
        (
            "extends: bass.yaml\n",
            "extends: no file bass.yaml; did you mean 'base.yaml'? (bad.yaml:1)",
        ),
        (
            "extends: [base.yaml, bad.yaml]\n",
            "extends.1: a recipe extends itself: bad.yaml -> bad.yaml; take one of these out (bad.yaml:1)",
        ),
    ],
    ids=["unknown key", "unknown part", "bad value", "wrong type", "tab", "missing file", "cycle"],
)
def test_a_wrong_recipe_gives_one_message_and_exit_code_2(tmp_path, text, message):
    (tmp_path / "base.yaml").write_text(f"extends: {DIGITS}\ntraining: {{warmup_images: 0}}\n")
    (tmp_path / "bad.yaml").write_text(text)
    result = run("run", "bad.yaml", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "runs").exists()


def test_a_missing_recipe_says_what_is_near(tmp_path):
    result = run("run", "digit", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no recipe 'digit'; did you mean 'digits'? (searched in recipes, ")


def test_help_imports_neither_torch_nor_pydantic():
    probe = (
        "import sys, etsdm.cli.app as m; m.app(['--help'], standalone_mode=False); print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "run" in result.stdout
    assert result.stdout.splitlines()[-1] == "False False"


def test_the_module_is_run_like_the_script():
    result = subprocess.run([sys.executable, "-m", "etsdm", "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"etsdm \d+\.\d+\S*\n", result.stdout)
    broken = subprocess.run([sys.executable, "-m", "etsdm", "run", "digit"], capture_output=True, text=True)
    assert broken.returncode == 2
    assert "Traceback" not in broken.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    result = run("run", TINY, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_a_run_shows_progress_report_and_summary(finished):
    folder, shown = finished
    assert "baseline: train 320/320 images" in shown
    assert "e-tsdm: evaluate 4/4 metrics" in shown
    assert "report: runs/tiny/report.html" in shown
    assert "pixel Frechet" in shown
    assert (folder / "runs/tiny/report.html").exists()


def test_a_second_run_says_that_there_is_nothing_to_do(finished):
    folder, _ = finished
    result = run("run", TINY, cwd=folder)
    assert result.stdout.startswith("tiny: every stage is done already\n")
    assert "train" not in result.stdout.splitlines()[1]


def test_a_dry_run_says_what_is_done_and_does_nothing(finished):
    folder, _ = finished
    result = run("run", TINY, "sampling.n=24", "--dry-run", cwd=folder)
    assert rows(result.stdout)[:2] == [["baseline", "done", "to do", "2 of 4 to do"], ["e-tsdm", "done", "to do", "2 of 4 to do"]]
    table = {title: cells for title, *cells in rows(result.stdout)}
    assert table["images of training"] == ["0", "640"]  # left, and from the beginning
    assert table["images of sampling"] == ["48", "48"]
    assert "baseline, e-tsdm: sampling again: sampling.n 16 -> 24\n" in result.stdout


def test_sampling_a_checkpoint_needs_no_flag_for_its_map(finished):
    from PIL import Image

    folder, _ = finished
    result = run("sample", "runs/tiny/e-tsdm", "-n", 8, cwd=folder)
    assert result.returncode == 0, result.stderr
    picture = Image.open(folder / "samples/grid.png")
    assert picture.size == (8 * 34 + 2, 34 + 2)
    protocol = json.loads(picture.text["protocol"])
    assert protocol["denoiser"]["condition_map"]["type"] == "e-tsdm"
    assert protocol["sampler"]["steps"] == 3  # the recipe's own
    recipe = json.loads(run("recipe", "validate", TINY, "--json", cwd=folder).stdout)
    assert protocol["recipe"] == recipe["fingerprints"]["e-tsdm"]


def test_the_report_can_be_written_anew_from_the_folder_alone(finished):
    folder, _ = finished
    page = folder / "runs/tiny/report.html"
    before = page.read_bytes()
    page.unlink()
    assert run("report", "runs/tiny", cwd=folder).returncode == 0
    assert page.read_bytes() == before


def test_mistakes_in_options_exit_with_2(finished):
    folder, _ = finished
    for arguments, message in [
        (("run", TINY, "--arm", "e-tsm"), "error: unknown arm 'e-tsm' of recipe 'tiny'; did you mean 'e-tsdm'?\n"),
        (("run", TINY, "--stage", "sampel"), "error: --stage: 'sampel' is no stage; did you mean 'sample'?\n"),
        (("sample", "runs/tiny/nothing"), "error: runs/tiny/nothing: is no folder; give a checkpoint's folder or a run's folder\n"),
        (("sample", "runs/tiny/e-tsdm", "--sampler", "dim"), "error: --sampler: unknown sampler 'dim'; did you mean 'ddim'?\n"),
        (("parts", "schedule"), "error: unknown registry 'schedule'; did you mean 'schedules' or 'lr_schedules'?\n"),
    ]:
        result = run(*arguments, cwd=folder)
        assert (result.returncode, result.stderr) == (2, message)


def test_parts_lists_registries_and_fields():
    listed = json.loads(run("parts", "--json").stdout)
    assert listed["condition_maps"]["identity"].startswith("The true time as condition")
    fields = json.loads(run("parts", "condition_maps", "e-tsdm", "--json").stdout)["fields"]
    assert {name: field["default"] for name, field in fields.items()} == {"t_tilde": 100.0, "n": 5, "share": "condition"}
    assert "quadratic" in run("parts", "schedules").stdout


def test_recipe_commands_show_validate_diff_list_and_schema():
    shown = run("recipe", "show", "digits", "--arm", "baseline").stdout
    assert "  condition_map:\n    type: identity\n" in shown
    assert re.fullmatch(
        r"baseline: valid, fingerprint [0-9a-f]{16}\ne-tsdm: valid, fingerprint [0-9a-f]{16}\n",
        run("recipe", "validate", "digits").stdout,
    )
    differences = run("recipe", "diff", "digits:baseline", "digits:e-tsdm").stdout
    shared = '{"type": "e-tsdm", "t_tilde": 100.0, "n": 5, "share": "condition"}'
    assert differences == f'model.condition_map: {{"type": "identity"}} -> {shared}\n'
    assert run("recipe", "diff", "digits", "digits").stdout == "no differences\n"
    assert "digits" in json.loads(run("recipe", "list", "--json").stdout)
    schema = json.loads(run("recipe", "schema").stdout)
    assert {"extends", "arms", "model", "training"} <= set(schema["properties"])
    assert schema["$defs"]["condition_maps/e-tsdm"]["properties"]["n"]["default"] == 5


def test_doctor_knows_the_versions():
    facts = json.loads(run("doctor", "--json").stdout)
    assert {"python", "torch", "etsdm", "cores", "cuda"} <= set(facts)
    assert facts["xformers"].startswith("not used: " if facts["cuda"] == "none" else ("not used: ", "used for attention"))
