"""The one reader of whole files: regular ones of bounded size."""

import ast
import os
import re
import socket
from pathlib import Path

import pytest
from PIL import Image

import etsdm
from etsdm.data.listing import open_file, read_file
from etsdm.errors import CheckpointError, DataError, IntegrityError
from etsdm.storage import regular
from etsdm.storage.files import sha256_of
from etsdm.storage.images import png_bytes, read_sealed_png
from etsdm.storage.records import Record, read_record
from etsdm.storage.regular import UnsuitableFileError, open_regular, read_regular

PACKAGE = Path(etsdm.__file__).parent


@pytest.fixture(params=["fifo", "folder", "device", "socket"])
def irregular(request, tmp_path):
    path = tmp_path / "entry"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    return path


def test_a_regular_file_is_read_whole_up_to_the_limit(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == b"12345"
    with pytest.raises(UnsuitableFileError) as caught:
        read_regular(file, 4)
    assert (caught.value.strerror, caught.value.filename) == ("it has more than 4 bytes", str(file))


def test_a_file_of_the_system_that_states_no_size_is_bounded_too():
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(UnsuitableFileError, match="more than 10 bytes"):
        read_regular(Path("/proc/self/maps"), 10)


def test_what_is_no_regular_file_is_refused_at_once(irregular):
    for read in (open_regular, sha256_of, lambda path: read_regular(path, 10)):
        with pytest.raises(UnsuitableFileError, match="it is no regular file"):
            read(irregular)


def test_every_reader_refuses_what_is_no_regular_file(irregular, latent_denoiser):
    class Note(Record):
        n: int

    from etsdm.checkpoints import load_first_stage

    readers = {
        lambda: read_record(irregular, Note): (IntegrityError, "no regular file; remove it"),
        lambda: read_sealed_png(irregular): (IntegrityError, "no regular file"),
        lambda: read_file(irregular): (DataError, "no regular file.*move it away"),
        lambda: open_file(irregular): (DataError, "no regular file.*move it away"),
        lambda: load_first_stage(latent_denoiser, irregular): (CheckpointError, "no regular file"),
    }
    for read, (error, message) in readers.items():
        with pytest.raises(error, match=message) as caught:
            read()
        assert str(irregular) in str(caught.value)


def test_images_are_bounded_by_the_size_of_their_file(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(png_bytes(Image.new("L", (8, 8))))
    assert read_file(file) == read_sealed_png(file)[1]
    for module in ("etsdm.data.listing", "etsdm.storage.images"):
        monkeypatch.setattr(f"{module}.MAX_IMAGE_BYTES", 20)
    with pytest.raises(DataError, match=rf"{re.escape(str(file))}: cannot be read \(it has more than 20 bytes\)"):
        read_file(file)
    with pytest.raises(IntegrityError, match=r"more than 20 bytes"):
        read_sealed_png(file)


def test_the_largest_image_that_pillow_decodes_is_within_the_bound():
    assert 3 * (2 * Image.MAX_IMAGE_PIXELS) <= regular.MAX_IMAGE_BYTES < 3 * (2 * Image.MAX_IMAGE_PIXELS) + 1024


def test_a_sealed_image_that_cannot_be_decoded_is_one_error(tmp_path):
    from etsdm.storage.images import PNG_TRAILER, _sealed

    file = tmp_path / "a.png"
    file.write_bytes(_sealed(b"no picture") + b"")
    assert file.read_bytes().endswith(PNG_TRAILER)
    with pytest.raises(IntegrityError, match=r"a\.png: cannot be decoded \(UnidentifiedImageError"):
        read_sealed_png(file)


def test_no_other_module_reads_a_file_whole():
    allowed = {"report/page.py", "report/diagnosis/page.py"}  # their templates, files of the package
    trees = {file.relative_to(PACKAGE).as_posix(): ast.walk(ast.parse(file.read_text())) for file in PACKAGE.rglob("*.py")}
    whole = ("read_text", "read_bytes")
    found = [name for name, nodes in trees.items() for node in nodes if isinstance(node, ast.Attribute) and node.attr in whole]
    assert set(found) == allowed
