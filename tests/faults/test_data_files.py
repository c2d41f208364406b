"""Image files that are damaged or odd: one message that names them, before a training starts."""

import numpy as np
import pytest
from entry_point import run
from PIL import Image

from etsdm.errors import DataError
from etsdm.registry import datasets

RECIPE = """
data: {{type: image-folder, path: {path}, image_size: 8, channels: 1, held_out: 4{more}}}
model:
  schedule: linear
  backbone: {{type: mlp, image_size: 8, in_channels: 1, out_channels: 1, width: 8, depth: 1, time_embed_dim: 4}}
training: {{images: 32, batch_size: 8, warmup_images: 0}}
sampling: {{n: 4, batch_size: 4, sampler: {{type: ddim, steps: 2}}}}
evaluation: {{metrics: []}}
"""


@pytest.fixture
def images(tmp_path):
    """A folder of 24 grey images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(24):
        Image.fromarray(np.full((8, 8), 10 * k, dtype=np.uint8)).save(folder / f"{k:02d}.png")
    return folder


def train(folder, more=""):
    recipe = folder.parent / "own.yaml"
    recipe.write_text(RECIPE.format(path=folder, more=more))
    return run("run", recipe, "--stage", "train", "compute.jobs=1", cwd=folder.parent)


def test_all_headers_are_read_before_a_training_with_progress(images):
    assert list(datasets.create("image-folder", path=str(images), image_size=8).check_files()) == [(24, 24)]
    result = train(images)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == "default: check images 24/24 images"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(b""), "is not a PNG, JPEG or WebP image of 8 bits a channel, or is damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:20]), "is not a PNG|cannot be decoded"),
        (lambda file: file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "is not a PNG"),
        (lambda file: file.write_bytes(b"GIF89a" + bytes(40)), "is not a PNG"),
        (lambda file: Image.new("L", (8, 7)).save(file), "8x7 pixels cannot be reduced to 8x8; remove it, or give a smaller image_size"),
        (lambda file: Image.new("I;16", (8, 8)).save(file), "has more than 8 bits a channel; save it with 8"),
    ],
    ids=["empty", "cut short", "EPS", "GIF", "small", "16 bits"],
)
def test_a_damaged_or_odd_file_is_named_before_training(images, spoil, message):
    spoil(images / "17.png")
    result = train(images)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: default: {images}/17.png: ")
    with pytest.raises(DataError, match=message):
        list(datasets.create("image-folder", path=str(images), image_size=8).check_files())
    assert not list(images.parent.rglob("*.safetensors"))


def test_of_many_files_the_first_are_named_and_the_others_counted(images):
    for k in range(12):
        (images / f"{k:02d}.png").write_bytes(b"none")
    lines = train(images).stderr.splitlines()
    assert len(lines) == 9
    assert lines[7].startswith(f"{images}/07.png: ")
    assert lines[8] == "and 4 more images"


def test_transparent_images_train_on_a_background(images):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(images / "03.png")
    assert "data.background=white" in train(images).stderr
    result = train(images, ", background: white")
    assert (result.returncode, result.stderr) == (0, "")
    folder = datasets.create("image-folder", path=str(images), image_size=8, channels=1, held_out=0, background="white")
    assert folder.open("train").load().pixels[3].unique().tolist() == [1.0]
    digests = {folder.model_copy(update={"background": colour}).open("train").digest() for colour in ("white", "black", None)}
    assert len(digests) == 3


def test_damaged_images_are_passed_over_counted_and_listed_where_the_recipe_says_so(images, monkeypatch):
    whole = (images / "05.png").read_bytes()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(images / "06.png")
    (images / "05.png").write_bytes(b"none")
    (images / "06.png").write_bytes((images / "06.png").read_bytes()[:2000])  # its header is whole
    monkeypatch.setenv("ETSDM_CACHE", str(images.parent / "cache"))
    result = train(images, ", on_error: skip")
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "default: check images 24/24 images"
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"warning: data: 2 images cannot be used and are passed over; the report lists them. The first: {images}/05")
    data = datasets.create("image-folder", path=str(images), image_size=8, channels=1, held_out=0, on_error="skip")
    assert list(data.passed_over()) == ["05.png", "06.png"]
    assert data.open("train").load().pixels[:, 0, 0, 0].add(1).mul(127.5).div(10).round().tolist() == [*range(5), *range(7, 24)]
    # The second time the list is read, and no image decoded.
    assert list(data.check_files()) == []
    assert "check images" not in run("run", images.parent / "own.yaml", "--stage", "train", "training.images=64", cwd=images.parent).stdout
    # Files that changed are decoded again.
    (images / "05.png").write_bytes(whole)
    assert list(data.model_copy().check_files()) == [(24, 24)]
    assert list(data.passed_over()) == ["06.png"]


def test_a_folder_without_one_usable_image_is_refused(images):
    for file in images.iterdir():
        file.write_bytes(b"none")
    data = datasets.create("image-folder", path=str(images), image_size=8, held_out=0, on_error="skip")
    with pytest.raises(DataError, match=r"^data\.path: none of the 24 images in .* can be used, for example .*/00\.png: "):
        data.open("train")
