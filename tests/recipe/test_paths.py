"""Paths in recipes: relative to the file that states them, or to the working directory where no file does."""

from pathlib import Path

import pytest
import yaml

import etsdm
from etsdm.recipe import to_yaml

DATA = "{type: image-folder, path: PATH, image_size: 8, channels: 1}"
MODEL = "model: {schedule: linear, backbone: mlp-digits}\ntraining: {images: 1, first_stage_weights: vq.safetensors}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub" / "below").mkdir(parents=True)
    return tmp_path


def path_of(*arguments):
    return etsdm.build(*arguments).recipe.data.path


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("images", "sub/images"),
        ("../images", "images"),
        ("./images/", "sub/images"),
        ("/data/images", "/data/images"),
        ("~/images", "~/images"),
    ],
)
def test_a_path_is_relative_to_its_recipe(folder, written, found):
    Path("sub/a.yaml").write_text(f"data: {DATA.replace('PATH', written)}\n{MODEL}")
    recipe = etsdm.build("sub/a.yaml").recipe
    assert recipe.data.path == found
    assert recipe.training.first_stage_weights == "sub/vq.safetensors"


def test_an_absolute_recipe_gives_absolute_paths(folder):
    Path("sub/a.yaml").write_text(f"data: {DATA.replace('PATH', 'images')}\n{MODEL}")
    assert path_of(folder / "sub/a.yaml") == str(folder / "sub/images")


def test_a_path_is_relative_to_the_file_that_states_it_and_not_to_one_that_extends_it(folder):
    Path("sub/a.yaml").write_text(f"data: {DATA.replace('PATH', 'images')}\n{MODEL}")
    Path("sub/below/b.yaml").write_text("extends: ../a.yaml\narms: {other: {data.path: mine}, same: }\n")
    arms = etsdm.build("sub/below/b.yaml").arms
    assert arms["same"].data.path == "sub/images"
    assert arms["other"].data.path == "sub/below/mine"


def test_overrides_mappings_and_presets_are_relative_to_the_working_directory(folder):
    Path("sub/a.yaml").write_text(f"data: {DATA.replace('PATH', 'images')}\n{MODEL}")
    assert path_of("sub/a.yaml", "data.path=other") == "other"
    fields = {"data": yaml.safe_load(DATA.replace("PATH", "images")), **yaml.safe_load(MODEL)}
    assert path_of(fields) == "images"
    Path("sub/preset.yaml").write_text("data: ffhq\nmodel: {schedule: linear, backbone: adm-normal}\ntraining: {images: 1}\n")
    assert path_of("sub/preset.yaml") == "data/ffhq"


def test_a_recipe_that_is_written_out_names_the_same_files_elsewhere(folder, monkeypatch):
    Path("sub/a.yaml").write_text(f"data: {DATA.replace('PATH', 'images')}\n{MODEL}")
    Path("sub/below/c.yaml").write_text(to_yaml(etsdm.build("sub/a.yaml").recipe))
    monkeypatch.chdir("sub")
    recipe = etsdm.build("below/c.yaml").recipe
    assert recipe.data.path == str(folder / "sub/images")
    assert recipe.training.first_stage_weights == str(folder / "sub/vq.safetensors")
