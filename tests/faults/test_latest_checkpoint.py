"""A run's folder whose latest checkpoint is damaged or missing: the one before it, as training itself goes on from, and a warning."""

import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from entry_point import run

import etsdm
from etsdm.checkpoints import checkpoint_folder
from etsdm.errors import EtsdmError, IntegrityError
from etsdm.sampling import SampledModel

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SHORT = ("training.images=64", "training.warmup_images=0", "training.checkpoint_every=32", "sampling.n=4", "evaluation.metrics=[]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    etsdm.build(TINY, *SHORT, out=folder).arm("baseline").run()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """The run, of which a copy may be damaged."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs/tiny/baseline"


def checkpoints(folder):
    return sorted(folder.parent.glob("trainings/*/checkpoints/[0-9]*"))


def flip(checkpoint):
    file = checkpoint / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def empty(checkpoint):
    for file in checkpoint.iterdir():
        file.unlink()


def replaced(checkpoint):
    before = checkpoint.with_name(f"{32:012d}")
    shutil.rmtree(checkpoint)
    shutil.copytree(before, checkpoint)


DAMAGE = {
    "flipped": (flip, r"000000000064: this checkpoint is damaged \(.*sha256"),
    "empty": (empty, r"000000000064: this checkpoint is damaged \(.*denoiser\.json is missing"),
    "replaced": (replaced, r"000000000064: this checkpoint is damaged \(.*holds the checkpoint after 32 images"),
    "missing": (shutil.rmtree, r"checkpoints: the checkpoint at the end of training, 64 images, is missing"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_the_one_before_is_taken_with_a_warning(folder, damage, message):
    before, latest = checkpoints(folder)
    expected = etsdm.load(before).state_dict()
    assert checkpoint_folder(folder) == latest
    damage(latest)
    used = rf"{message}.*; that after 32 images is used, {re.escape(str(before))}; to train on from there, run the recipe again"
    for read in (lambda: etsdm.load(folder), lambda: SampledModel.from_checkpoint(folder).trained):
        with pytest.warns(UserWarning, match=used):
            found = read()
        assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    result = run("sample", folder, "-n", "1", "--out", folder / "images")
    assert result.returncode == 0
    assert re.search(rf"warning: .*{message}", result.stderr)


def test_a_whole_latest_checkpoint_gives_no_warning(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        etsdm.load(folder)


def test_a_run_without_a_whole_checkpoint_is_refused(folder):
    for checkpoint in checkpoints(folder):
        flip(checkpoint)
    with pytest.raises(IntegrityError, match=r"000000000064/weights\.safetensors: sha256 .*; no earlier checkpoint of .* is whole"):
        etsdm.load(folder)
    for checkpoint in checkpoints(folder):
        shutil.rmtree(checkpoint)
    with pytest.raises(EtsdmError, match="holds no checkpoint; run the recipe first"):
        etsdm.load(folder)


def test_a_run_then_trains_again_from_there(folder, trained):
    latest = checkpoints(folder)[1]
    shutil.rmtree(latest)
    etsdm.build(TINY, *SHORT, out=folder.parents[1]).arm("baseline").run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = etsdm.load(folder).state_dict(), etsdm.load(trained / "tiny/baseline").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
