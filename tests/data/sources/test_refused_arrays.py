"""Arrays and pickles that are not as declared are refused before they are read, and run nothing."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
from image_layouts import cifar_archive, cifar_folder, python2_pickle, zip_file
from refusals import ARRAYS, refusal
from torchvision.datasets import CIFAR10 as PUBLISHED

from etsdm.data.plain_pickle import UnsafePickleError, load_plain
from etsdm.data.sources.cifar10 import MD5


def header_of(shape, descr="|u1", order=False):
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()
    text += b" " * (118 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header_of((10**12, 32, 32, 3)) + bytes(3072), "declares uint8 of (1000000000000, 32, 32, 3), and has 3,072 bytes"),
        (header_of((2**62, 32, 32, 3)) + bytes(3072), "declares uint8 of"),
        (header_of((1, 32, 32, 3), "|O") + bytes(8 * 3072), "holds Python objects, which are not read, as that could run a program"),
        (header_of((1, 32, 32, 3), order=True) + bytes(3072), "is in Fortran order"),
        (header_of((1, 32, 32, 3), "<f4") + bytes(4 * 3072), "has arr_0 of float32, (1, 32, 32, 3)"),
        (header_of((1, 64, 64, 3)) + bytes(4 * 3072), "has arr_0 of uint8, (1, 64, 64, 3)"),
        (header_of((-1, 32, 32, 3)) + bytes(3072), ""),
        (b"\x93NUMPY\x09\x00" + bytes(100), "is no array of numpy, or is damaged"),
        (b"", "is no array of numpy, or is damaged"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_is_not_as_declared_is_refused_before_it_is_read(content, message, method, tmp_path):
    path = zip_file(tmp_path, {"arr_0.npy": content}, method)
    assert message in refusal("npz", path, **{**ARRAYS, "classes": None})


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    wrong = {"not a whole number for each of 2 images": np.zeros(3, int), "arr_1 of float64": np.zeros(2), "-1": np.array([0, -1])}
    for message, labels in wrong.items():
        np.savez(tmp_path / "x.npz", np.zeros((2, 32, 32, 3), np.uint8), labels)
        assert message in refusal("npz", tmp_path / "x.npz", **ARRAYS)
    np.savez(tmp_path / "x.npz", np.zeros((2, 32, 32, 3), np.uint8))
    assert "has no arr_1, the labels; write them too" in refusal("npz", tmp_path / "x.npz", **ARRAYS)


class Runs:
    """A pickle that makes a file when it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_batch_that_would_run_a_program_is_refused_and_not_run(protocol, tmp_path):
    path = cifar_folder(tmp_path)
    proof = tmp_path / "proof"
    (path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({"data": Runs(proof), "labels": [0]}, protocol))
    message = refusal("cifar10", path)
    assert "data_batch_1 is no plain pickle of arrays (it names " in message
    assert "open); nothing in it was run" in message
    assert not proof.exists()


@pytest.mark.parametrize("found", [{}, [], {b"data": 3, b"labels": []}, {b"data": np.zeros((1, 5), np.uint8), b"labels": [0]}, None])
def test_a_batch_of_other_content_is_refused(found, tmp_path):
    path = cifar_folder(tmp_path)
    (path / "cifar-10-batches-py" / "data_batch_3").write_bytes(python2_pickle(found))
    assert "data_batch_3 does not hold 3072 levels and one label of 0 to 9 for each image" in refusal("cifar10", path)


@pytest.mark.parametrize(
    "content", [b"", b"cos\nsystem\n.", b"cnumpy\nload\n.", b"Pname\n.", b"cnumpy\nndarray\n)R)b.", b"\x80\x02X\xff\xff\xff\x7fa"]
)
def test_a_pickle_of_more_than_plain_arrays_or_a_damaged_one_is_refused(content):
    with pytest.raises(UnsafePickleError):
        load_plain(content)


def test_a_pickle_that_is_cut_short_is_refused():
    whole = python2_pickle({b"data": np.arange(9, dtype=np.uint8)})
    assert load_plain(whole)[b"data"].content == bytes(range(9))
    for end in range(len(whole)):
        with pytest.raises(UnsafePickleError):
            load_plain(whole[:end])


def test_files_other_than_the_published_ones_are_refused_by_md5(tmp_path):
    message = refusal("cifar10", cifar_folder(tmp_path), verify=True)
    assert "data_batch_1 has md5 " in message
    assert "and the published file has c99cafc152244af753f735de768cd75f; download it again, or set data.verify=false" in message


def test_a_large_file_in_an_archive_is_not_unpacked(tmp_path):
    path = cifar_archive(tmp_path, {"cifar-10-batches-py/data_batch_1": bytes(2**26 + 1)})
    assert "of 67,108,865 bytes, and 67,108,864 is the limit; nothing was unpacked" in refusal("cifar10", path)


def test_md5_sums_are_those_of_torchvision():
    assert dict(PUBLISHED.train_list + PUBLISHED.test_list) == MD5
