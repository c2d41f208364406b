"""Killed writers: what they leave behind is removed by the next one, and what a living one is at stays."""

import os
import stat
import subprocess
import sys

import pytest
import torch

from etsdm.runs.folder import ExperimentFolder, TrainingFolder
from etsdm.sampling import PngStore
from etsdm.storage.files import atomic_folder, open_atomically, remove_leftovers, replacing, write_atomically
from etsdm.storage.tensors import read_tensors, write_tensors

KILLED = """
import os, signal, sys
from pathlib import Path
from etsdm.storage.files import atomic_folder, open_atomically, replacing
writer = {"file": open_atomically, "folder": atomic_folder, "image": replacing}[sys.argv[1]](Path(sys.argv[2]))
writer.__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(kind, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", KILLED, kind, str(path)], check=False)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["file", "folder", "image"])
def test_leftovers_of_a_killed_writer_are_removed_with_the_lock(tmp_path, kind):
    experiment = ExperimentFolder(tmp_path / "digits")
    place = experiment.path / "trainings/0123/checkpoints/000000000128"
    kill_a_writer(kind, place)
    (left,) = place.parent.iterdir()
    assert left.name.startswith(".000000000128.")
    assert left.name.endswith(".tmp")
    with experiment.locked():
        assert list(place.parent.iterdir()) == []


def test_every_folder_with_a_lock_is_cleared_of_leftovers(tmp_path):
    experiment, training = ExperimentFolder(tmp_path / "a"), TrainingFolder(tmp_path / "b")
    store = PngStore(tmp_path / "c", {})
    store.open_for(1)
    left = [
        experiment.path / ".experiment.json.0123abcd.tmp",
        experiment.path / "baseline/.recipe.yaml.0123abcd.tmp",
        experiment.path / "baseline/samples/default/.00000000-00000064.safetensors.0123abcd.tmp",
        training.path / ".recipe.yaml.0123abcd.tmp",
        training.checkpoints / ".000000000128.0123abcd.tmp",
        store.path / ".grid.png.0123abcd.tmp",
        store.images / ".000003.png.0123abcd.tmp",
        store.images / ".000003.tmp",  # of earlier versions
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    kept = [
        experiment.path / "baseline/.notes.tmp",
        store.path / ".vimrc",
        store.path / "mine.0123abcd.tmp",
        store.path / "deep/.a.0123abcd.tmp",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with experiment.locked(), training.locked(), store.locked():
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("writer", [open_atomically, replacing, atomic_folder])
def test_what_a_living_writer_is_at_stays(tmp_path, writer):
    with writer(tmp_path / "a") as written:
        remove_leftovers(tmp_path)
        if writer is atomic_folder:
            (written / "x").touch()
    assert (tmp_path / "a").exists()
    assert names(tmp_path)[0] == "a"


def test_the_next_writer_of_a_file_without_a_lock_removes_leftovers_of_it_alone(tmp_path):
    kill_a_writer("file", tmp_path / "lipschitz.csv")
    (tmp_path / ".other.csv.0123abcd.tmp").touch()
    write_atomically(tmp_path / "lipschitz.csv", "t,mean")
    assert names(tmp_path) == [".other.csv.0123abcd.tmp", "lipschitz.csv"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o027, 0o640)])
def test_all_files_honour_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        record = write_tensors(tmp_path / "weights.safetensors", {"a": torch.ones(2)})
        write_atomically(tmp_path / "record.json", "{}")
        with replacing(tmp_path / "0.png") as file:
            file.write(b"")
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "x").touch()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()} == {mode}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask
    assert read_tensors(tmp_path, record)["a"].tolist() == [1, 1]
