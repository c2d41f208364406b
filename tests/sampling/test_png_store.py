"""A job's folder: which images are in it, whose they are, and what is made of them."""

import hashlib
import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from etsdm.errors import IntegrityError, StorageError
from etsdm.sampling import PngStore, write_grid, write_npz, write_zip
from etsdm.storage.files import digest_of

PROTOCOL = {"sampler": {"type": "ddim", "steps": 50}, "seed": 0, "weights": "a" * 64}


@pytest.fixture
def folder(tmp_path):
    return PngStore(tmp_path / "job", PROTOCOL, lambda k: {"seed": "0", "label": str(k % 3)})


def levels(n, channels=1, size=4):
    """Images all of whose pixels are one of the 256 levels, other ones in each."""
    pixels = torch.arange(n * channels * size * size).reshape(n, channels, size, size) % 256
    return pixels.byte(), pixels / 127.5 - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_comes_back_from_its_file(folder, channels):
    pixels, images = levels(6, channels)
    folder.write(range(6), images)
    for k in range(6):
        read = np.atleast_3d(np.asarray(Image.open(folder.file(k))))
        assert np.array_equal(read, pixels[k].permute(1, 2, 0).numpy())


def test_a_level_is_the_nearest_one_and_what_lies_outside_is_cut(folder):
    values = torch.tensor([-3.0, -1.0, -0.9999, 0.0039, 0.004, 0.9999, 1.0, 7.0])
    folder.write([0], values.reshape(1, 1, 2, 4))
    # 127.5 (x + 1) rounded by hand: 0.0039 -> 127.997, 0.004 -> 128.01.
    assert np.asarray(Image.open(folder.file(0))).flatten().tolist() == [0, 0, 0, 128, 128, 255, 255, 255]


def test_a_file_says_how_it_was_drawn(folder):
    folder.write([4], levels(1)[1])
    text = Image.open(folder.file(4)).text
    assert json.loads(text["protocol"]) == PROTOCOL
    body, _, _ = folder.file(4).read_bytes().rpartition(b"\0\0\0\x47tEXtsha256")
    assert text.pop("sha256") == hashlib.sha256(body).hexdigest()
    assert {**text, "protocol": ""} == {"index": "4", "seed": "0", "label": "1", "protocol": "", "protocol_digest": digest_of(PROTOCOL)}


@pytest.mark.filterwarnings("ignore:.*it is generated again")
def test_a_file_that_was_cut_short_is_missing(folder):
    folder.write(range(4), levels(4)[1])
    whole = folder.file(1).read_bytes()
    folder.file(1).write_bytes(whole[:-1])
    folder.file(2).write_bytes(b"")
    (folder.images / ".000003.tmp").write_bytes(whole)
    assert folder.missing(range(6)) == [1, 2, 4, 5]
    assert folder.is_complete(1)
    assert not folder.is_complete(4)
    folder.write([1, 2], levels(4)[1][1:3])
    assert folder.is_complete(4)
    assert not folder.is_complete(5)


def test_a_picture_in_the_place_of_another_is_missing(folder, tmp_path):
    other = PngStore(tmp_path / "other", {**PROTOCOL, "seed": 1})
    for store in (folder, other):
        store.write(range(3), levels(3)[1])
    content = {k: folder.file(k).read_bytes() for k in range(3)}
    folder.file(0).write_bytes(content[1])
    with pytest.warns(UserWarning, match=r"000000\.png: is an image of index 1; it is generated again$"):
        assert folder.missing(range(3)) == [0]
    folder.file(0).write_bytes(other.file(0).read_bytes())
    with pytest.warns(UserWarning, match=r"000000\.png: is an image of another protocol; it is generated again$"):
        assert not folder.is_complete(3)
    folder.file(0).write_bytes(content[0].replace(b"index\x000", b"index\x001"))
    with pytest.warns(UserWarning, match=r"000000\.png: was changed or damaged: .*; it is generated again$"):
        assert folder.missing([0]) == [0]
    folder.file(0).write_bytes(content[0])
    assert folder.is_complete(3)


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"protocol_digest": 5}'])
def test_a_lost_record_is_written_again_from_the_images(folder, content):
    folder.open_for(3)
    folder.write(range(3), levels(3)[1])
    before = folder.job_file.read_bytes()
    folder.job_file.unlink()
    if content is not None:
        folder.job_file.write_text(content)
    with pytest.raises(IntegrityError, match=r"holds images that differ in seed \(0 -> 1\); give another folder"):
        PngStore(folder.path, {**PROTOCOL, "seed": 1}).open_for(3)
    with pytest.warns(UserWarning, match=r"job\.json: .*; it is written again from the images$"):
        PngStore(folder.path, PROTOCOL).open_for(3)
    assert folder.job_file.read_bytes() == before


def test_other_files_in_the_folder_are_left_alone(folder):
    folder.write(range(2), levels(2)[1])
    for name in ("000001 copy.png", "7.txt", "notes.png"):
        (folder.images / name).write_bytes(b"mine")
    assert folder.is_complete(2)
    assert not folder.is_complete(3)


def test_the_same_protocol_may_come_again_and_ask_for_more(folder):
    for n in (4, 4, 9):
        PngStore(folder.path, PROTOCOL).open_for(n)
    assert json.loads((folder.path / "job.json").read_text())["images"] == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"holds images that differ in seed \(0 -> 1\); give another folder, or remove this one$"),
        ({"sampler": {"type": "ddim", "steps": 9}}, r"differ in sampler\.steps \(50 -> 9\); "),
        ({"sampler": {"type": "ddpm", "steps": 50}}, r"differ in sampler \(ddim -> ddpm\); "),
        ({"weights": "b" * 64}, r"differ in weights \(aaaaaaaaaaaa\.\.\. -> bbbbbbbbbbbb\.\.\.\); "),
        ({"guidance": 2.0}, r"differ in guidance \(null -> 2\.0\); "),
    ],
)
def test_another_protocol_is_refused(folder, changes, message):
    folder.open_for(4)
    before = (folder.path / "job.json").read_bytes()
    with pytest.raises(IntegrityError, match=message):
        PngStore(folder.path, {**PROTOCOL, **changes}).open_for(4)
    assert (folder.path / "job.json").read_bytes() == before


def test_what_is_no_job_or_a_larger_one_is_refused(folder, tmp_path):
    (tmp_path / "file.png").write_bytes(b"")
    for place in (tmp_path / "file.png", tmp_path / "file.png" / "below"):
        with pytest.raises(StorageError, match=rf"^{tmp_path}/file\.png: is a file where a folder is needed; give a folder;"):
            PngStore(place, PROTOCOL).open_for(1)
    folder.open_for(9)
    folder.write(range(4), levels(4)[1])
    folder.open_for(4)
    with pytest.raises(IntegrityError, match=r"holds image 3, beyond the 3 requested; give 4 or more, or another folder$"):
        folder.open_for(3)
    (tmp_path / "other" / "images").mkdir(parents=True)
    (tmp_path / "other" / "images" / "cat.png").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"holds images without a job\.json; give another folder$"):
        PngStore(tmp_path / "other", PROTOCOL).open_for(1)


def test_two_processes_cannot_have_one_rank(folder):
    message = r"another process generates images here as rank 1; wait for it, or give each process its own rank$"
    with folder.locked(0), folder.locked(1), pytest.raises(IntegrityError, match=message), PngStore(folder.path, PROTOCOL).locked(1):
        pass
    with folder.locked(1):
        pass


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [None, [5, 1, 2, 5, 1, 2, 5]])
def test_the_archive_has_the_layout_of_guided_diffusion(folder, channels, labels):
    pixels, images = levels(7, channels)
    folder.write(range(7), images)
    with np.load(write_npz(folder, 7, "samples.npz", labels and labels.__getitem__)) as archive:
        assert archive.files == ["arr_0"] + ["arr_1"] * (labels is not None)
        assert archive["arr_0"].dtype == np.uint8
        assert np.array_equal(archive["arr_0"], pixels.permute(0, 2, 3, 1).numpy())
        assert labels is None or archive["arr_1"].tolist() == labels
        assert labels is None or archive["arr_1"].dtype == np.int64
    assert sorted(path.name for path in folder.path.iterdir()) == ["images", "samples.npz"]


def test_an_archive_of_many_images_needs_the_memory_of_few(folder):
    folder.write(range(300), levels(300, channels=3, size=32)[1])
    tracemalloc.start()
    archive = write_npz(folder, 300, "samples.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert archive.stat().st_size > 300 * 3 * 32 * 32
    assert peak < 300 * 3 * 32 * 32 / 2


def test_the_same_images_give_the_same_archive(folder):
    folder.write(range(3), levels(3)[1])
    first = write_npz(folder, 3, "samples.npz", lambda k: k).read_bytes()
    assert write_npz(folder, 3, "again.npz", lambda k: k).read_bytes() == first


def test_the_zip_holds_the_files_as_they_are_and_is_the_same_again(folder):
    folder.write(range(3), levels(3)[1])
    content = write_zip(folder, 3, "samples.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["000000.png", "000001.png", "000002.png"]
        assert archive.read("000001.png") == folder.file(1).read_bytes()
    assert write_zip(folder, 3, "samples.zip").read_bytes() == content


def test_an_archive_that_fails_half_way_leaves_nothing(folder):
    folder.write(range(3), levels(3)[1])
    for write in (write_zip, write_npz):
        with pytest.raises(IntegrityError, match=r"000003\.png: is missing; generate the images again"):
            write(folder, 4, "samples")
    assert sorted(path.name for path in folder.path.iterdir()) == ["images"]


def test_the_grid_shows_the_first_images_and_their_protocol(folder):
    folder.write(range(70), levels(70)[1])
    picture = Image.open(write_grid(folder, 70))
    # 8 columns of 32 pixels with 2 between, and 64 images at most.
    assert picture.size == (8 * 34 + 2, 8 * 34 + 2)
    assert json.loads(picture.text["protocol"]) == PROTOCOL
    first = np.asarray(picture)[2:34, 2:34]
    assert np.array_equal(first[::8, ::8].reshape(-1) if first.ndim == 2 else first[::8, ::8, 0].reshape(-1), np.arange(16))
    assert len(list(ImageSequence.Iterator(picture))) == 1
