"""Full and read-only disks, files in the way: one message with path, reason and mend, exit code 2, and no half-written file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from disks import largest_file, leftovers, read_only, refused, small_disk
from entry_point import run
from safetensors import SafetensorError

import etsdm
from etsdm.errors import StorageError
from etsdm.registry import datasets
from etsdm.runs.launch import run_in_processes
from etsdm.sampling import PngStore, SampledModel, generate_folder, write_npz
from etsdm.storage.faults import storage_error

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SHORT = ("training.images=64", "training.warmup_images=0", "sampling.n=4", "evaluation.metrics=[recognition]", "compute.jobs=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert run("run", TINY, *SHORT, cwd=folder).returncode == 0
    return folder / "runs/tiny"


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_space(tmp_path, finished):
    with small_disk(tmp_path / "disk", free=40_000) as disk:
        result = run("run", TINY, *SHORT, "--out", disk)
        assert refused(result, "/weights.safetensors", "no space left on device")
        assert ".tmp" not in result.stderr
        assert result.stderr.startswith("error: baseline: ")
        assert leftovers(disk) == []
        (disk / "filler").unlink()
        assert run("run", TINY, *SHORT, "--out", disk).returncode == 0
        assert content(disk / "tiny") == content(finished)


def test_a_full_disk_is_reported_through_a_process_of_its_own(tmp_path):
    with small_disk(tmp_path / "disk", free=40_000) as disk:
        runs = etsdm.build(TINY, *SHORT, out=disk).arm("baseline").runs
        with pytest.raises(StorageError, match=rf"^baseline: {disk}/.*: no space left on device; .*; nothing that was saved is lost$"):
            list(run_in_processes(runs, ("train",)))
        assert leftovers(disk) == []


@pytest.mark.parametrize("size", [0, 2000, 20_000])
def test_a_run_whose_files_may_not_grow_goes_on_when_they_may(tmp_path, finished, size):
    with largest_file(size):
        result = run("run", TINY, *SHORT, "--out", tmp_path)
    assert refused(result, "", "file too large")
    assert leftovers(tmp_path) == []
    assert run("run", TINY, *SHORT, "--out", tmp_path).returncode == 0
    assert content(tmp_path / "tiny") == content(finished)


@pytest.mark.parametrize("size", [0, 1500])
def test_sampling_whose_files_may_not_grow_goes_on_when_they_may(tmp_path, finished, size):
    arguments = ("sample", finished / "e-tsdm", "-n", 64, "--npz", "--zip", "--out", tmp_path / "out")
    with largest_file(size):
        assert refused(run(*arguments), "", "file too large")
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "out/samples.npz").exists()
    assert run(*arguments).returncode == 0
    assert {"samples.npz", "samples.zip", "grid.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_an_archive_on_a_full_disk_is_refused_and_the_images_stay(tmp_path):
    # A file mapped into memory ends the process with a bus error here.
    with small_disk(tmp_path / "disk", free=100 * 4096) as disk:
        store = PngStore(disk / "out", {})
        store.open_for(4)
        store.write(range(4), torch.zeros(4, 3, 64, 64))
        space = os.statvfs(disk)
        (disk / "more").write_bytes(bytes((space.f_bavail - 3) * space.f_frsize))
        with pytest.raises(StorageError, match=r"samples\.npz: no space left on device; "):
            write_npz(store, 4, "samples.npz")
        assert store.is_complete(4)
        assert leftovers(disk) == []


def test_files_of_other_commands_that_may_not_grow(tmp_path, finished):
    lipschitz = ("lipschitz", "--exact", "m1", "--images", 8, "--t", "0:3", "--out", tmp_path)
    report = finished / "report.html"
    before = report.read_bytes()
    with largest_file(10):
        assert refused(run(*lipschitz), tmp_path / "lipschitz.csv", "file too large")
        assert refused(run("report", finished), report, "file too large")
    assert report.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path, finished):
    with read_only(tmp_path):
        for arguments in (
            ("run", TINY, *SHORT, "--out", tmp_path),
            ("sample", finished / "e-tsdm", "-n", 1, "--out", tmp_path),
            ("sample", finished / "e-tsdm", "-n", 1, "--out", tmp_path / "deep/er"),
            ("lipschitz", "--exact", "m1", "--images", 8, "--t", "0:3", "--out", tmp_path),
        ):
            assert refused(run(*arguments), "", "read-only file system"), arguments
    with read_only(finished):
        assert refused(run("report", finished), "report.html", "read-only file system")


def test_a_file_where_a_folder_is_needed_has_one_message(tmp_path, finished):
    file = tmp_path / "file"
    file.write_text("mine")
    message = f"error: {file}: is a file where a folder is needed; give a folder; nothing that was saved is lost\n"
    for place in (file, file / "below", file / "be/low"):
        for arguments in (
            ("run", TINY, *SHORT, "--out", place),
            ("sample", finished / "e-tsdm", "-n", 1, "--out", place),
            ("lipschitz", "--exact", "m1", "--images", 8, "--t", "0:3", "--out", place),
            ("report", place),
        ):
            result = run(*arguments)
            assert (result.returncode, result.stderr) == (2, message), arguments
    assert file.read_text() == "mine"


def test_names_that_no_file_can_have_and_folders_in_the_way(tmp_path, finished):
    long = "n" * 300
    for arguments in (
        ("run", TINY, "--out", tmp_path / long),
        ("sample", tmp_path / long),
        ("sample", finished / "e-tsdm", "-n", 1, "--out", tmp_path / long),
        ("report", tmp_path / long),
        ("plan", tmp_path / long),
    ):
        result = run(*arguments, cwd=tmp_path)
        assert refused(result, "", "file name too long"), arguments
        assert len(result.stderr) < 400
    result = run("run", TINY, f"name={long}", "--out", tmp_path)
    assert result.returncode == 2
    assert "100 characters" in result.stderr
    for arguments in (("run", long), ("recipe", "validate", long)):  # a name of a recipe that is not there
        result = run(*arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("error: no recipe 'nnn")
    (tmp_path / "lipschitz.csv").mkdir()
    result = run("lipschitz", "--exact", "m1", "--images", 8, "--t", "0:3", "--out", tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        f"error: {tmp_path / 'lipschitz.csv'}: is a folder in the place of a file; remove it\n",
    )
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("arguments", [("recipe", "list"), ("--help",)])
def test_output_into_a_full_disk(arguments):
    if not Path("/dev/full").exists():
        pytest.skip("no device that is full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "etsdm", *arguments]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert refused(result, "standard output", "no space left on device")


def test_the_python_interface_raises_one_kind_of_error(tmp_path, finished):
    (tmp_path / "file").touch()
    model = SampledModel.from_checkpoint(finished / "e-tsdm")
    for call in (
        lambda: etsdm.build(TINY, out=tmp_path / "file").run(),
        lambda: etsdm.build(TINY, out=tmp_path / "file").denoiser,
        lambda: etsdm.build(TINY, out=tmp_path / "file").report(),
        lambda: list(etsdm.build(TINY, out=tmp_path / "file").execute(("train",))),
        lambda: generate_folder(model.task(), tmp_path / "file", n=1),
        lambda: etsdm.load(tmp_path / ("n" * 300)),
        lambda: datasets.create("image-folder", path="n" * 300, image_size=8).open("train"),
        lambda: datasets.create("image-folder", path="n" * 300, image_size=8).files(),
    ):
        with pytest.raises(StorageError, match=r": .*; give a (folder|shorter name); nothing that was saved is lost$") as error:
            call()
        assert isinstance(error.value, OSError)
        assert error.value.exit_code == 2


def test_errors_of_safetensors_have_the_reason_of_the_system(tmp_path):
    raised = SafetensorError("Error while serializing: I/O error: Permission denied (os error 13)")
    message = str(storage_error(raised, tmp_path / ".000128.0123abcd.tmp/weights.safetensors"))
    assert message.startswith(f"{tmp_path}/000128/weights.safetensors: permission denied; change its permissions, ")


def test_every_error_of_the_system_has_a_path_a_reason_and_a_mend(tmp_path):
    for number in errno.errorcode:
        message = str(storage_error(OSError(number, os.strerror(number), str(tmp_path / "a"))))
        place, reason, mend, *rest = message.replace(": ", "; ", 1).split("; ")
        assert (place, reason.lower()) == (f"{tmp_path}/a", os.strerror(number).lower())
        assert mend
        assert rest == ["nothing that was saved is lost"]
