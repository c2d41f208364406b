import hashlib

import pytest

from etsdm.errors import IntegrityError
from etsdm.storage.files import atomic_files, atomic_folder, open_atomically, sha256_of, write_atomically


def fill(path, name, error=None):
    """Writes a folder with one file, and fails at the end if told to."""
    with atomic_folder(path) as folder:
        (folder / name).write_text(name)
        if error:
            raise error


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("content", ["text, ümlaut\n", b"\x00bytes", ""])
def test_content_is_written_as_it_is(tmp_path, content):
    write_atomically(tmp_path / "a" / "b.txt", content)
    found = (tmp_path / "a" / "b.txt").read_bytes()
    assert found == (content if isinstance(content, bytes) else content.encode())
    assert everything(tmp_path) == ["a", "a/b.txt"]


def test_old_content_is_replaced(tmp_path):
    for content in ("long old content", "new"):
        write_atomically(tmp_path / "a.txt", content)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert everything(tmp_path) == ["a.txt"]


def test_a_file_that_is_written_piece_by_piece_appears_at_the_end(tmp_path):
    with open_atomically(tmp_path / "a" / "b.bin") as file:
        file.write(b"one ")
        assert not (tmp_path / "a" / "b.bin").exists()
        file.write(b"two")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"one two"
    with pytest.raises(TypeError), open_atomically(tmp_path / "a" / "b.bin") as file:
        file.write("no bytes")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"one two"
    assert everything(tmp_path) == ["a", "a/b.bin"]


@pytest.mark.parametrize("content", ["\ud800", 3], ids=["no UTF-8", "no text"])
def test_content_that_cannot_be_written_leaves_the_old_one(tmp_path, content):
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises((UnicodeEncodeError, TypeError, AttributeError)):
        write_atomically(tmp_path / "a.txt", content)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert everything(tmp_path) == ["a.txt"]


def test_a_folder_in_the_way_of_a_file_is_left_alone(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(IntegrityError, match=r"a: is a folder in the place of a file; remove it"):
        write_atomically(tmp_path / "a", "content")
    assert everything(tmp_path) == ["a", "a/b"]


def test_a_folder_appears_whole_at_the_end_of_the_block(tmp_path):
    with atomic_folder(tmp_path / "runs" / "a") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "x.txt").write_text("x")
        assert not (tmp_path / "runs" / "a").exists()
        assert folder.name.startswith(".")
    assert everything(tmp_path) == ["runs", "runs/a", "runs/a/deep", "runs/a/deep/x.txt"]


def test_a_folder_that_exists_is_refused_before_anything_is_made(tmp_path):
    fill(tmp_path / "a", "old.txt")
    with pytest.raises(IntegrityError, match=rf"^{tmp_path}/a: .*; remove it, or give another path$"):
        atomic_folder(tmp_path / "a").__enter__()
    assert everything(tmp_path) == ["a", "a/old.txt"]


def test_of_two_writers_of_a_folder_the_first_to_finish_wins(tmp_path):
    late = atomic_folder(tmp_path / "a")
    (late.__enter__() / "late.txt").touch()
    fill(tmp_path / "a", "early.txt")
    with pytest.raises(IntegrityError, match="a: exists and is not overwritten"):
        late.__exit__(None, None, None)
    assert everything(tmp_path) == ["a", "a/early.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        fill(tmp_path / "a", "x.txt", error)
    assert everything(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * 100_000])
def test_the_digest_of_a_file_is_its_sha256(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_files_of_one_writer_appear_together(tmp_path):
    path = tmp_path / "new" / "model.onnx"

    def write():
        with atomic_files(path) as file:
            for suffix in ("", ".data"):
                file.with_name(f"{file.name}{suffix}").write_text("weights")

    write()
    assert everything(tmp_path) == ["new", "new/model.onnx", "new/model.onnx.data"]
    path.unlink()
    with pytest.raises(IntegrityError, match=r"model\.onnx\.data: exists and is not overwritten"):
        write()
    assert everything(tmp_path) == ["new", "new/model.onnx.data"]
