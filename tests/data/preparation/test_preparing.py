"""Preparations that are parallel, killed, damaged or refused: the same bytes, nothing decoded twice, nothing dropped in silence."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from disks import leftovers, small_disk
from PIL import Image
from releases_on_disk import encoded, write

from etsdm.data import LoadedImages
from etsdm.data.preparation import manifest_of, prepare_images, record_of, release_dataset
from etsdm.data.preparation.prepared import PreparedSet
from etsdm.errors import DataError, EtsdmError, IntegrityError, PartError, StorageError
from etsdm.registry import datasets
from etsdm.storage.files import sha256_of
from etsdm.storage.records import read_record

SIZE, N = 16, 24


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "source", {f"{k:02d}.png": encoded(k, 40, 32, "PNG") for k in range(N)})


def prepare(source, out, **options):
    return prepare_images(release_dataset("folder", source, size=SIZE), out, **options)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def inodes(folder):
    """Of the PNG files, by their content."""
    return {path.read_bytes(): path.stat().st_ino for path in folder.rglob("*.png")}


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_the_number_of_workers_changes_no_byte(source, tmp_path, suffix):
    for workers in (1, 4):
        (tmp_path / str(workers)).mkdir()
        prepare(source, tmp_path / f"{workers}/set{suffix}", workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


def test_one_sha256_is_that_of_all_files(source, tmp_path):
    folder, archive = tmp_path / "set", tmp_path / "set.zip"
    record = prepare(source, folder)
    assert record == read_record(record_of(folder), PreparedSet)
    assert record.set_sha256 == sha256_of(manifest_of(folder)) == prepare(source, archive).set_sha256
    lines = dict(reversed(line.split("  ")) for line in manifest_of(folder).read_text().splitlines())
    assert lines == {name: sha256_of(folder / name) for name in contents(folder)}
    (source / "00.png").write_bytes(encoded(99, 40, 32, "PNG"))
    assert prepare(source, tmp_path / "other").set_sha256 != record.set_sha256


KILLED = """
import os, signal, sys
from etsdm.data.preparation import prepare_images, release_dataset
def kill(title, done, total):
    if (title, done) == (sys.argv[3], 9):
        os.kill(os.getpid(), signal.SIGKILL)
prepare_images(release_dataset("folder", sys.argv[1], size=16), sys.argv[2], workers=2, progress=kill)
"""


@pytest.mark.parametrize(("title", "suffix"), [("prepare", ""), ("write", ".zip")])
def test_a_killed_preparation_goes_on_and_gives_the_same_bytes(source, tmp_path, title, suffix):
    out, whole = tmp_path / f"out/set{suffix}", tmp_path / f"whole/set{suffix}"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out), title], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    unfinished = out.with_name(f"{out.name}.unfinished")
    log = (unfinished / "images.log").read_text()
    finished = {content: inode for content, inode in inodes(unfinished).items() if hashlib.sha256(content).hexdigest() in log}
    assert len(finished) >= 9
    done = []
    prepare(source, out, progress=lambda title, at, total: done.append((title, at, total)))
    prepare(source, whole)
    assert contents(out.parent) == contents(whole.parent)
    assert leftovers(out.parent) == []
    if not suffix:  # a finished image is the same file still
        assert all(inodes(out)[content] == inode for content, inode in finished.items())
    assert done[-1] == ("write", N, N)
    assert done[0] == ("prepare", 1, N)


def test_what_is_damaged_in_between_is_done_again(source, tmp_path):
    out = tmp_path / "set"
    (source / "05.png").write_bytes(b"")
    with pytest.raises(DataError):
        prepare(source, out)
    (source / "05.png").write_bytes(encoded(5, 40, 32, "PNG"))
    first, second, *_ = sorted((tmp_path / "set.unfinished").rglob("*.png"))
    first.write_bytes(second.read_bytes())
    second.unlink()
    with (tmp_path / "set.unfinished/images.log").open("r+b") as log:
        log.truncate(log.seek(0, os.SEEK_END) - 40)
    prepare(source, out)
    assert contents(out) == contents_of_a_new_one(source, tmp_path)


def contents_of_a_new_one(source, tmp_path):
    prepare(source, tmp_path / "new")
    return contents(tmp_path / "new")


def test_images_that_cannot_be_used_stop_it_and_their_repair_makes_no_other_stale(source, tmp_path):
    out = tmp_path / "set"
    whole = (source / "03.png").read_bytes()
    (source / "03.png").write_bytes(whole[:-900])
    (source / "07.png").write_bytes(encoded(0, 8, 8, "PNG"))
    with pytest.raises(DataError, match=r"(?s)03\.png: .*07\.png: 8x8 pixels.*2 images cannot be used; .*--on-error skip") as error:
        prepare(source, out)
    assert len(str(error.value).splitlines()) == 3
    assert not out.exists()
    assert not record_of(out).exists()
    finished = inodes(tmp_path / "set.unfinished")
    assert len(finished) == N - 2
    (source / "03.png").write_bytes(whole)
    (source / "07.png").unlink()
    assert prepare(source, out).images == N - 1
    assert all(inodes(out)[content] == inode for content, inode in finished.items())


def test_of_many_images_the_first_are_named(source, tmp_path):
    for file in source.iterdir():
        file.write_bytes(b"")
    for on_error in ("stop", "skip"):  # nothing is left
        with pytest.raises(DataError, match=rf"and {N - 8} more images\n{N} images cannot be used") as error:
            prepare(source, tmp_path / "set", on_error=on_error)
        assert len(str(error.value).splitlines()) == 8 + 2


def test_skipped_images_are_listed_and_leave_a_gap(source, tmp_path):
    (source / "03.png").write_bytes(b"GIF89a")
    record = prepare(source, tmp_path / "set", on_error="skip")
    assert record.images == N - 1
    assert list(record.left_out) == ["03.png"]
    assert str(source / "03.png") in record.left_out["03.png"]
    assert sorted(contents(tmp_path / "set"))[:4] == [f"00000/img{k:08d}.png" for k in (0, 1, 2, 4)]
    names = [name for name, _ in (json.loads((tmp_path / "set/dataset.json").read_text())["labels"] or [])]
    assert names == []


def test_duplicates_are_by_pixels_and_kept_or_dropped(tmp_path):
    same = Image.fromarray(np.full((32, 32, 3), 7, dtype=np.uint8))
    source = write(tmp_path / "source", {"a/0.png": encoded(0, 32, 32, "PNG"), "b/1.png": encoded(1, 32, 32, "PNG")})
    for name in ("a/2.png", "b/3.webp", "b/4.png"):
        same.save(source / name, lossless=True)
    (source / "b/5.png").write_bytes((source / "a/0.png").read_bytes())
    groups = [["a/0.png", "b/5.png"], ["a/2.png", "b/3.webp", "b/4.png"]]
    kept = prepare(source, tmp_path / "kept")
    assert (kept.images, kept.duplicates, kept.left_out) == (6, groups, {})
    names = ["00000/img00000000.png", "00000/img00000005.png"]
    assert len({(tmp_path / "kept" / name).stat().st_ino for name in names}) == 2
    dropped = prepare(source, tmp_path / "dropped", duplicates="drop")
    reason = "has the pixels of "
    assert dropped.left_out == {"b/3.webp": f"{reason}a/2.png", "b/4.png": f"{reason}a/2.png", "b/5.png": f"{reason}a/0.png"}
    assert (dropped.images, dropped.duplicates, dropped.class_counts) == (3, groups, [2, 1])


def test_a_set_that_is_there_is_left_as_it_is(source, tmp_path):
    out = tmp_path / "set.zip"
    first = prepare(source, out)
    before = out.stat().st_mtime_ns
    assert prepare(source, out, workers=3) == first
    assert out.stat().st_mtime_ns == before
    (source / "00.png").unlink()
    with pytest.raises(IntegrityError, match=r"set\.zip: was prepared from other images.*; remove it with set\.zip\.sha256, set\.zip\.js"):
        prepare(source, out)


def test_foreign_files_are_refused_and_stay(source, tmp_path):
    for name in ("set", "other.unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("text")
    with pytest.raises(IntegrityError, match=r"set: exists, and has no record of a preparation; remove it, or give another place"):
        prepare(source, tmp_path / "set")
    with pytest.raises(IntegrityError, match=r"other\.unfinished: holds no unfinished images.*; move it away"):
        prepare(source, tmp_path / "other")
    (tmp_path / "third.json").write_text('{"mine": 1}')
    (tmp_path / "third").mkdir()
    with pytest.raises(IntegrityError, match=r"third\.json: "):
        prepare(source, tmp_path / "third")
    assert (tmp_path / "set/mine").read_text() == (tmp_path / "other.unfinished/mine").read_text() == "text"


def test_an_unfinished_preparation_of_other_settings_is_refused(source, tmp_path):
    (source / "03.png").write_bytes(b"")
    with pytest.raises(DataError):
        prepare(source, tmp_path / "set")
    with pytest.raises(IntegrityError, match=r"set\.unfinished: .* image_size 16, not 8, filter 'lanczos', not 'box'; finish it so, or"):
        prepare_images(release_dataset("folder", source, size=8, filter="box"), tmp_path / "set")


def test_a_place_in_the_folder_of_the_originals_is_refused(source):
    with pytest.raises(PartError) as error:
        prepare(source, source / "set")
    assert error.value.field == "out"
    assert str(source) in error.value.message


@pytest.mark.parametrize("out", ["loop", "loop/below", "/", "", "a\0b", "a\ud800b", "long" * 500, "source.zip/below"])
def test_places_that_no_set_can_have_are_one_error(source, tmp_path, out):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "source.zip").write_text("a file")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((EtsdmError, PartError), match=";"):
        prepare(source, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_full_disk_is_one_error_and_it_goes_on_when_there_is_space(source, tmp_path, suffix):
    with small_disk(tmp_path / "disk", free=60_000) as disk:
        out = disk / f"set{suffix}"
        with pytest.raises(StorageError, match=r"no space left on device; .*; nothing that was saved is lost$"):
            prepare(source, out, workers=2)
        assert leftovers(disk) == []
        assert not out.exists()
        assert not record_of(out).exists()
        (disk / "filler").unlink()
        prepare(source, out)
        assert contents(out.parent).keys() >= {"set.json"} if not suffix else {"set.zip.json"}
        assert not out.with_name(f"{out.name}.unfinished").exists()


def test_images_in_float_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"torch\.float32; only images of 8 bits a channel"):
        prepare_images(datasets.create("digits"), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
    assert LoadedImages(torch.zeros(1, 1, 2, 2), torch.zeros(1)).read([0])[0].dtype == torch.float32
