"""Damaged and malicious archives are refused with one message, and nothing is written beside them."""

import gzip
import os
import struct
import tracemalloc
import zipfile

import pytest
from image_layouts import FILES, cifar_archive, folder, lmdb_folder, npz, shards, tar, zip_file
from refusals import ARRAYS, ONE, cut, garbage, refusal

from etsdm.errors import DataError
from etsdm.registry import datasets
from etsdm.storage.regular import MAX_IMAGE_BYTES

MAKERS = {"zip": zip_file, "npz": npz, "cifar10": cifar_archive}


@pytest.mark.parametrize("damage", [cut, garbage])
@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_that_is_cut_short_or_overwritten_is_refused(kind, damage, tmp_path):
    path = damage(MAKERS[kind](tmp_path))
    assert "is cut short or damaged" in refusal(kind, path, **(ARRAYS if kind == "npz" else {}))


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99])
def test_a_truncated_lmdb_is_refused_before_its_pages_are_touched(share, tmp_path):
    path = lmdb_folder(tmp_path)
    cut(path / "data.mdb", share)
    message = refusal("lmdb", path)
    assert "is cut short" in message or "is no LMDB database" in message or "cannot be read as an LMDB database" in message


def test_a_file_that_is_no_lmdb_is_refused(tmp_path):
    path = lmdb_folder(tmp_path)
    garbage(path / "data.mdb")
    assert "is no LMDB database; download or copy it again" in refusal("lmdb", path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_shard_that_is_cut_short_is_refused(share, tmp_path):
    path = shards(tmp_path)
    cut(tmp_path / "part-1.tar", share)
    assert "part-1.tar: is" in refusal("webdataset", path)


def test_a_shard_without_its_end_is_refused(tmp_path):
    path = shards(tmp_path)
    whole = (tmp_path / "part-1.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "part-1.tar").write_bytes(whole + bytes(-len(whole) % 512))
    assert "part-1.tar: is cut short or damaged at byte" in refusal("webdataset", path)


def test_a_damaged_header_within_a_shard_is_no_end(tmp_path):
    path = shards(tmp_path)
    content = bytearray((tmp_path / "part-0.tar").read_bytes())
    at = content.index(b"c", 20_000)
    at = next(
        k for k in range(20_480 // 512 * 512, len(content), 512) if content[k : k + 1] == b"c" and content[k + 257 : k + 262] == b"ustar"
    )
    content[at + 150] ^= 0xFF
    (tmp_path / "part-0.tar").write_bytes(content)
    assert f"part-0.tar: is cut short or damaged at byte {at:,}" in refusal("webdataset", path)


def test_a_compressed_shard_is_refused_with_its_mend(tmp_path):
    plain = tar(tmp_path / "x", FILES)
    (tmp_path / "x.tar").write_bytes(gzip.compress(plain.read_bytes()))
    assert "x.tar: is compressed, so its images cannot be read in any order; unpack it with gunzip" in refusal(
        "webdataset", tmp_path / "x.tar"
    )


OUTSIDE = ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:/evil.png", "a\\..\\..\\evil.png"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "lmdb", "webdataset"])
def test_names_that_leave_the_container_are_refused(kind, name, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    make = {"zip": zip_file, "lmdb": lmdb_folder, "webdataset": lambda inner, files: tar(inner / "x.tar", files)}[kind]
    path = make(inner, {**FILES, name: next(iter(FILES.values()))})
    assert "leads out of it; nothing was read" in refusal(kind, path, classes=None)
    assert [file.name for file in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize("kind", ["zip", "webdataset"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(kind, tmp_path):
    if kind == "zip":
        with zipfile.ZipFile(zip_file(tmp_path), "a") as archive:
            archive.writestr("c0/00.png", b"")
        path = tmp_path / "images.zip"
    else:
        tar(tmp_path / "x0.tar", FILES)
        tar(tmp_path / "x1.tar", ONE)
        path = tmp_path / "x*.tar"
    assert "the name 'c0/00.png' stands there twice" in refusal(kind, path)


def patch_directory(path, **fields):
    """Changes the first record of a zip archive's directory."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    offsets = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L"), "header": (42, "<L")}
    for name, value in fields.items():
        struct.pack_into(offsets[name][1], content, at + offsets[name][0], value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": MAX_IMAGE_BYTES + 1}, r"would unpack to 536,870,913 bytes, and 536,870,912 is the limit; nothing was unpacked"),
        ({"size": 10}, "is damaged, its checksum is another one"),
        ({"crc": 1}, "is damaged, its checksum is another one"),
        ({"packed": MAX_IMAGE_BYTES}, "cannot be read (it has no 536,870,912 bytes"),
        ({"header": 5}, "cannot be read (no file begins at byte 5)"),
        ({"flags": 1}, "is encrypted; make the archive anew without a password"),
        ({"method": 12}, "is packed by method 12; make the archive anew, stored or deflated"),
    ],
)
def test_a_zip_that_declares_what_it_does_not_hold_is_refused(fields, message, tmp_path):
    assert message in refusal("zip", patch_directory(zip_file(tmp_path), **fields))


def test_a_zip_bomb_is_unpacked_no_further_than_it_declares(tmp_path):
    path = zip_file(tmp_path, {"a.png": bytes(2**27), **FILES})
    patch_directory(path, size=1000)
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    try:
        refusal("zip", path, classes=None)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_member_of_a_shard_over_the_limit_is_refused(tmp_path):
    path = tar(tmp_path / "x.tar", ONE)
    content = bytearray(path.read_bytes())
    header = content[:512]
    header[124:136] = b"%011o\0" % (MAX_IMAGE_BYTES + 512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(header)
    os.truncate(path, MAX_IMAGE_BYTES + 4096)  # a sparse file
    part = datasets.create("webdataset", path=str(path), image_size=32, held_out=0)
    with pytest.raises(DataError, match=r"x\.tar/c0/00\.png: has 536,871,424 bytes, and 536,870,912 is the limit; make the archive anew"):
        part.check()


EMPTY = {"zip": zip_file, "image-folder": folder, "lmdb": lmdb_folder, "webdataset": lambda root, files: tar(root / "x.tar", files)}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_container_without_images_is_missing(kind, tmp_path):
    part = datasets.create(kind, path=str(EMPTY[kind](tmp_path, {} if kind == "lmdb" else {"a.txt": b"text"})), image_size=8)
    with pytest.raises(DataError, match=r"^data\.path: .* holds no image"):
        part.check()
    assert part.files().content is None
