"""Published image sets."""

import pytest

from etsdm.data import ImageFolder, ImageLmdb
from etsdm.errors import DataError
from etsdm.registry import datasets


def test_published_sets_are_folders_of_known_counts_at_256():
    # FFHQ and CelebAMask-HQ: their READMEs. AFHQ: 5,653 cats and 5,238 wild animals (its copies on the Hugging Face hub) without the
    # 500 test images of each (Choi et al. 2020, appendix A).
    counts = {"ffhq": 70_000, "celebahq": 30_000, "afhq-cat": 5653 - 500, "afhq-wild": 5238 - 500}
    for name, count in counts.items():
        part = datasets.create(name)
        assert isinstance(part, ImageFolder)
        assert (part.shape, part.num_classes, part.count) == ((3, 256, 256), 1, count)
        assert f"{count:,}" in part.source
        assert f"{count:,}" in datasets.describe(name)


def test_ffhq_says_what_to_get_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        datasets.create("ffhq").check()
    found, expected, get, prepare, put = str(error.value).splitlines()
    assert found == f"data.path: {tmp_path / 'data/ffhq'} is no folder"
    assert expected.startswith("expected in this folder: 70,000 PNG, JPEG or WebP images, of 256x256 pixels or larger;")
    # Name, number and size as in the README of NVlabs/ffhq-dataset.
    assert get == "get FFHQ's folder images1024x1024, 70,000 PNG files, 89.1 GB: see https://github.com/NVlabs/ffhq-dataset"
    assert prepare.startswith("prepare the download with etsdm data prepare images1024x1024 --dataset ffhq ")
    assert put == "put the images there, or name another folder with data.path=FOLDER"


def test_lsun_is_read_from_its_databases():
    # Counts of the catalogue of TensorFlow Datasets, lsun/cat, and of GenForce's table of LSUN.
    for name, count in {"lsun-church": 126_227, "lsun-cat": 1_657_266}.items():
        part = datasets.create(name)
        assert isinstance(part, ImageLmdb)
        assert (part.shape, part.num_classes, part.count) == ((3, 256, 256), 1, count)
        assert f"{count:,}" in part.source
        assert f"{count:,}" in datasets.describe(name)


def test_cifar10_says_what_to_get_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        datasets.create("cifar10").check()
    found, _, get, _ = str(error.value).splitlines()
    assert found == f"data.path: {tmp_path / 'data/cifar-10-python.tar.gz'} is no file or folder"
    assert get == "get the CIFAR-10 python version, cifar-10-python.tar.gz, 163 MB: see https://www.cs.toronto.edu/~kriz/cifar.html"
