"""`etsdm diagnose` as a person uses it: what it prints and writes, and what it refuses."""

import json

import pytest
from entry_point import rows, run
from PIL import Image

import etsdm

SHORT = {"type": "linear", "timesteps": 50}
QUICK = ("--images", 2, "--fine", 1, "--coarse", 2)


def command(*arguments, cwd="."):
    return run("diagnose", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def model(tiny_denoiser, tmp_path_factory):
    return etsdm.save(tiny_denoiser(schedule=SHORT), tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(3):
        Image.new("L", (8, 8), 80 * k).save(folder / f"{k}.png")
    return folder


def test_a_table_advice_and_a_page_are_given(model, pictures, tmp_path):
    result = command(model, "--data", pictures, *QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = {cells[0]: cells[1:] for cells in rows(result.stdout)}
    text = " ".join(result.stdout.split())
    record = json.loads(command(model, "--data", pictures, *QUICK, "--json", cwd=tmp_path).stdout)
    assert table["time-awareness"][0] == f"{record['time_awareness']['value']:.3g}"
    assert table["K at their edges"][0] == f"{record['lipschitz']['means']['edges']:.4g}"
    assert table["K at their edges"][1] == f"{record['lipschitz']['shared']['means']['edges']:.4g}"
    for one in record["advice"]:
        assert (one["finding"] in text) == (one["topic"] not in ("training", "other ways"))
    assert result.stdout.endswith("\ndiagnosis.html\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diagnosis.html", "pictures"]


def test_json_is_valid_and_writes_no_page_unless_one_is_named(model, tmp_path):
    result = command(model, "--data", "digits", *QUICK, "--json", cwd=tmp_path)
    record = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    assert record["images"]["source"] == "2 held-out images of data set 'digits'"
    assert list(tmp_path.iterdir()) == []
    command(model, "--data", "digits", *QUICK, "--json", "--out", "page.html", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "page.png"], "--out: page.png is no HTML file; give a name that ends in .html, or a folder"),
        (["--data", "digitz"], "--data: unknown data set 'digitz'; did you mean 'digits'?"),
        (["--data", "{type: image-folder, path: nowhere, image_size: 8, channels: 1}"], "nowhere is no folder"),
        (
            ["--data", "{type: image-folder, path: ., image_size: 16}"],
            "--data: images of 'image-folder' are 3x16x16, but the denoiser takes 1x8x8",
        ),
        (["--weights", "mean"], "--weights: 'mean'"),
        (["--weights", "current"], "holds one set of weights"),
    ],
)
def test_wrong_options_are_refused_in_one_message(model, arguments, message, tmp_path):
    result = command(model, *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_and_a_damaged_folder_are_refused_in_one_sentence(model, tmp_path):
    result = command("nowhere", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "nowhere: is no folder; give" in result.stderr
    damaged = etsdm.save(etsdm.load(model), tmp_path / "damaged")
    (damaged / "denoiser.json").write_text("{")
    result = command(damaged)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert str(damaged / "denoiser.json") in result.stderr


def test_a_folder_of_images_that_are_too_small_is_refused(model, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "small.png")
    result = command(model, "--data", tmp_path)
    assert result.returncode == 2
    assert "small.png" in result.stderr
