"""`etsdm data`: what is printed, written and refused."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from entry_point import rows, run
from PIL import Image
from releases_on_disk import encoded, ffhq, write

from etsdm.registry import datasets
from etsdm.storage.records import read_record
from etsdm.training import DataStatistics

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
METRICS = "evaluation.metrics=[loss-per-t]"  # the recipe's own need classes


@pytest.fixture
def pictures(tmp_path):
    return write(tmp_path / "pictures", {f"{kind}/{k}.png": encoded(k, 40, 32, "PNG") for kind in ("cat", "dog") for k in range(3)})


def test_the_command_that_a_run_without_its_data_prints_makes_them(tmp_path):
    result = run("run", TINY, "data={type: ffhq, image_size: 8, channels: 1, path: prepared images}", METRICS, cwd=tmp_path)
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("prepare "))
    command = shlex.split(line.removeprefix("prepare the download with "))
    assert command == shlex.split("etsdm data prepare images1024x1024 --dataset ffhq --size 8 --out 'prepared images'")
    ffhq(tmp_path)
    result = run(*command[1:], "--count", 6, cwd=tmp_path / "ffhq-dataset")
    assert (result.returncode, result.stderr) == (0, "")
    datasets.create("ffhq", path=str(tmp_path / "ffhq-dataset/prepared images"), image_size=8, count=6, held_out=1).check()


def test_prepare_prints_what_it_wrote(pictures, tmp_path):
    (pictures / "dog/3.png").write_bytes(b"")
    options = ("data", "prepare", pictures, "--dataset", "folder", "--size", 16, "--out", "set.zip", "--workers", 2)
    result = run(*options, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "dog/3.png" in result.stderr
    assert result.stderr.endswith("or leave them out with --on-error skip\n")
    result = run(*options, "--on-error", "skip", "--duplicates", "drop", cwd=tmp_path)
    assert result.returncode == 0
    first, same, left_out, digest, record = result.stdout.splitlines()
    assert first == "folder: 3 images of 16x16 in 2 classes in set.zip"
    assert same == "images with the pixels of another one: 3; the record lists them"
    assert left_out.startswith("images left out: 4; ")
    assert record == "record: set.zip.json"
    found = json.loads(run(*options, "--on-error", "skip", "--duplicates", "drop", "--json", cwd=tmp_path).stdout)
    assert digest == f"sha256: {found['set_sha256']} of set.zip.sha256"
    assert (found["container"], found["class_names"], found["class_counts"]) == ("zip", ["cat", "dog"], [3, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset", "fhq"), "--dataset: unknown data set 'fhq'; did you mean 'ffhq'?"),
        (("--on-error", "ship"), "--on-error: 'ship' is unknown; give stop or skip"),
        (("--duplicates", "all"), "--duplicates: 'all' is unknown; give keep or drop"),
        (("--filter", "lanzcos"), "data set 'image-folder': filter: found 'lanzcos'; give 'lanczos', "),
        (("--out", "pictures/set"), "--out: "),
        (("--count", "7"), "pictures: holds 6 images, not 7; complete it, or if these are all, give --count 6"),
        (("--dataset", "cifar10", "--size", "16"), "--size: 16 is not the size of CIFAR-10's images; give 32"),
    ],
)
def test_a_wrong_option_of_prepare_is_one_line(pictures, tmp_path, options, message):
    defaults = {"--dataset": "folder", "--out": "set", "--size": 16} | dict(zip(options[::2], options[1::2], strict=True))
    result = run("data", "prepare", "pictures", *(word for pair in defaults.items() for word in pair), cwd=tmp_path)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith(f"error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_inspect_prints_a_table_and_writes_a_sheet(pictures, tmp_path):
    (pictures / "cat/bad.png").write_bytes(b"")
    result = run("data", "inspect", "pictures", "--sheet", "sheet.png", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("pictures: 7 images, and 1 of them cannot be used\n")
    assert ["sizes", "40x32", "6"] in rows(result.stdout)
    assert ["classes", "cat dog", "4 3"] in rows(result.stdout)
    assert f"{pictures}/cat/bad.png: is not a PNG" in result.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (604, 104)
    found = json.loads(run("data", "inspect", "pictures", "--json", cwd=tmp_path).stdout)
    assert (found["images"], found["sizes"], list(found["damaged"]), found["sheet"]) == (7, {"40x32": 6}, ["cat/bad.png"], None)


def test_inspect_reads_places_recipes_and_parts(pictures, tmp_path):
    part = f"{{type: image-folder, path: {pictures}, image_size: 36}}"
    assert len(json.loads(run("data", "inspect", part, "--json").stdout)["damaged"]) == 6  # 32 pixels high
    assert json.loads(run("data", "inspect", "digits", "--json").stdout)["images"] == 1797
    changed = json.loads(run("data", "inspect", "digits", f"data={part.replace('36', '8')}", "data.channels=1", METRICS, "--json").stdout)
    assert (changed["images"], changed["damaged"]) == (6, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("./nowhere",), "nowhere: is not there; give a folder of images"),
        (("nowhere",), "no recipe 'nowhere'"),
        (("pictures", "a=1"), "a=1: changes a recipe, and pictures is none; leave it out"),
        (("pictures", "--sheet", "a.jpg"), "--sheet: a.jpg is no PNG file; give a name that ends in .png"),
    ],
)
def test_what_cannot_be_inspected_is_one_line(pictures, tmp_path, arguments, message):
    result = run("data", "inspect", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith(f"error: {message}")


def test_stats_are_printed_and_recorded(tmp_path):
    result = run("data", "stats", "digits", cwd=tmp_path)
    assert result.returncode == 0
    found = read_record(tmp_path / "data-statistics.json", DataStatistics)
    pixels = datasets.create("digits").open("train").pixels.double().numpy()
    assert found is not None
    assert found.std == pytest.approx(np.std(pixels), rel=1e-9)
    assert f"standard deviation {found.std:.5f} (sigma_data)" in result.stdout
    printed = json.loads(run("data", "stats", "digits", "training.flip=true", "--json", "--out", "b.json", cwd=tmp_path).stdout)
    assert printed["augmentation"] == {"flip": True, "random_crop": None}
    again = read_record(tmp_path / "b.json", DataStatistics)
    assert again is not None
    assert printed["channel_means"] == again.channel_means
