"""A run's folder whose latest checkpoint is damaged or missing: refused, with the one before it, which has other numbers, named."""

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
    "flipped": (flip, r"000000000064/weights\.safetensors: sha256"),
    "empty": (empty, r"000000000064.*denoiser\.json is missing"),
    "replaced": (replaced, r"000000000064: holds the checkpoint after 32 images"),
    "missing": (shutil.rmtree, r"checkpoints: the checkpoint at the end of training, 64 images, is missing"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_the_one_before_is_named_and_not_taken(folder, damage, message):
    before, latest = checkpoints(folder)
    assert checkpoint_folder(folder) == latest
    damage(latest)
    mend = rf"{message}.*; run the recipe again, which goes on from 32 images, or give the checkpoint there: {re.escape(str(before))}$"
    for read in (etsdm.load, SampledModel.from_checkpoint):
        with pytest.raises(IntegrityError, match=mend):
            read(folder)
    assert etsdm.load(before)
    result = run("sample", folder, "-n", "1", "--out", folder / "images")
    assert result.returncode == 2
    assert re.search(rf"^error: .*{mend}", result.stderr.rstrip())


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
