"""What stages depend on: of files it is the content, and of files that are gone what was recorded of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import etsdm
from etsdm.data import Digits, Files
from etsdm.errors import DataError
from etsdm.runs import STAGES
from etsdm.storage.files import sha256_of
from etsdm.storage.tensors import write_tensors

RECIPES = Path(__file__).parents[1] / "recipes"
METRIC = "evaluation.metrics=[{type: loss-per-t, fine: 1, coarse: 3}]"


def draw_images(folder, seed=0):
    """Twelve pictures of noise, in files of one size: what is in them cannot be told by names and sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(np.random.default_rng(seed).integers(0, 256, (12, 8, 8), dtype=np.uint8)):
        Image.fromarray(image).save(folder / f"{k:02d}.png", compress_level=0)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with `runs` and the `images` that they were trained on."""
    base = tmp_path_factory.mktemp("finished")
    draw_images(base / "images")
    list(run_of(base).run())
    return base


@pytest.fixture
def base(finished, tmp_path):
    """A copy of it to spoil, where the program runs."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run_of(base, *overrides, path="images"):
    data = f"data={{type: image-folder, path: {base / path}, image_size: 8, channels: 1, held_out: 2}}"
    small = ("training.images=32", "training.warmup_images=0", "sampling.n=2", METRIC)
    return etsdm.build(RECIPES / "tiny.yaml", data, *small, *overrides, out=base / "runs").arm("baseline").runs[0]


def to_do(run):
    return [stage for stage in STAGES if not run.is_done(stage)]


def test_a_folder_that_was_moved_is_not_trained_on_again(finished, tmp_path):
    shutil.copytree(finished / "runs", tmp_path / "runs")
    shutil.copytree(finished / "images", tmp_path / "elsewhere" / "pictures")
    run = run_of(tmp_path, path="elsewhere/pictures")
    assert to_do(run) == []
    # What is measured there may be compared with what was measured before.
    [entry] = run.folder.manifest().values
    file = run.folder.path / entry.file
    before = json.loads(file.read_text())
    file.unlink()
    list(run.run())
    assert json.loads(file.read_text())["protocol_digest"] == before["protocol_digest"]


def test_other_images_under_the_same_names_and_of_the_same_sizes_are_trained_on(base):
    sizes = [path.stat().st_size for path in sorted((base / "images").iterdir())]
    draw_images(base / "images", seed=1)
    assert [path.stat().st_size for path in sorted((base / "images").iterdir())] == sizes
    assert to_do(run_of(base)) == list(STAGES)
    draw_images(base / "images", seed=0)
    assert to_do(run_of(base)) == []


def test_one_image_more_or_less_is_another_set(base):
    (base / "images" / "05.png").rename(base / "images" / ".05.png")
    assert to_do(run_of(base)) == list(STAGES)


@pytest.mark.parametrize("emptied", [False, True])
def test_a_finished_run_is_finished_without_its_images(base, emptied):
    other = "training.learning_rate=1e-3"
    list(run_of(base, other).run())
    shutil.rmtree(base / "images")
    if emptied:
        (base / "images").mkdir()  # where nothing is mounted
    run = run_of(base, other)
    assert to_do(run) == []
    run.check()
    # A place that was never seen is not taken for it, and another training needs the images.
    for refused in (run_of(base, other, path="nowhere"), run_of(base, "training.learning_rate=3e-3")):
        assert to_do(refused) == list(STAGES)
        with pytest.raises(DataError, match=r"^data.path: .* (is no folder|holds no image files)"):
            refused.check()


def test_fields_that_describe_are_in_no_digest(base):
    assert to_do(run_of(base, "data.source=a friend", "data.count=12")) == []
    assert to_do(run_of(base, "data.filter=box")) == list(STAGES)


def test_a_checkpoint_says_what_was_read(base):
    run = run_of(base)
    facts = json.loads((run.train.folder.latest_checkpoint() / "denoiser.json").read_text())["facts"]
    assert facts["inputs"]["data"]["content"] == run.inputs["data"].content
    assert run.inputs["data"] == run.recipe.data.files()
    assert Digits().files() is None


def test_weights_of_a_first_stage_count_by_what_they_are(tmp_path):
    latent = RECIPES / "latent.yaml"
    weights = etsdm.build(latent).recipe.model.build(seed=77).first_stage.state_dict()
    file, other = tmp_path / "vq.safetensors", tmp_path / "other.safetensors"
    write_tensors(file, weights)

    def run(path):
        return etsdm.build(latent, f"training.first_stage_weights={path}", METRIC, out=tmp_path / "runs").arm("e-tsdm").runs[0]

    list(run(file).run())
    assert run(file).inputs == {"first_stage_weights": Files(str(file), sha256_of(file))}
    shutil.move(file, other)
    assert to_do(run(other)) == []
    assert to_do(run(file)) == []  # gone from where it was
    assert to_do(run(tmp_path / "nowhere.safetensors")) == list(STAGES)
    write_tensors(file, {name: value + 1 for name, value in weights.items()})
    assert to_do(run(file)) == list(STAGES)
