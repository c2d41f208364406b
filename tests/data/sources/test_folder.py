"""Folders of scikit-learn's digits and of random pictures as files."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from etsdm.data import EncodedImages, ImageFolder, LoadedImages
from etsdm.errors import DataError, RegistryError
from etsdm.registry import datasets

DIGITS = (load_digits().images[:40] * 15).astype(np.uint8)  # levels 0 to 240
TARGETS = load_digits().target[:40]


def write(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Forty digits in a sub-folder for each ten, written in no order."""
    root = tmp_path_factory.mktemp("digits")
    for k in np.random.default_rng(0).permutation(40):
        write(root / str(k // 10) / f"{k:02d}.png", DIGITS[k])
    return root


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Forty digits in a sub-folder for each of the ten numbers."""
    root = tmp_path_factory.mktemp("classes")
    for k, (pixels, target) in enumerate(zip(DIGITS, TARGETS, strict=True)):
        write(root / str(target) / f"{k:02d}.png", pixels)
    return root


def folder(root, **fields):
    return ImageFolder(**{"path": str(root), "image_size": 8, "channels": 1, "held_out": 0, **fields})


def to_uint8(images):
    """Bytes 0 to 255 as pixels in [-1, 1]."""
    return torch.from_numpy(images[:, None].astype(np.float32) / np.float32(127.5) - np.float32(1))


def problem(**fields):
    """The message on a field that is refused."""
    with pytest.raises(RegistryError) as error:
        datasets.create("image-folder", **{"path": "p", "image_size": 8, **fields})
    return str(error.value)


def failure(part):
    """The message of a check, which opening repeats."""
    with pytest.raises(DataError) as error:
        part.check()
    for split in ("train", "test"):
        with pytest.raises(DataError) as again:
            part.open(split)
        assert str(again.value) == str(error.value)
    return str(error.value)


def test_image_k_is_the_kth_file_in_the_order_of_paths(digits):
    images = folder(digits).open("train")
    assert len(images) == 40
    assert images.names[:2] == ["0/00.png", "0/01.png"]
    loaded = images.load()
    assert torch.equal(loaded.pixels, to_uint8(DIGITS))
    assert loaded.pixels.dtype == torch.float32
    assert torch.equal(loaded.labels, torch.zeros(40, dtype=torch.int64))


def test_the_darkest_and_the_lightest_byte_are_minus_one_and_one(tmp_path):
    write(tmp_path / "a.png", np.array([[0, 255], [51, 204]], dtype=np.uint8))
    pixels = folder(tmp_path, image_size=2).open("train").load().pixels
    torch.testing.assert_close(pixels, torch.tensor([[[[-1.0, 1.0], [-0.6, 0.6]]]]), rtol=0, atol=1e-7)
    assert pixels.min() == -1
    assert pixels.max() == 1


@pytest.mark.parametrize("indices", [[39, 0, 39], range(3, 7), torch.tensor([7, 2]), []])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_the_same_as_of_the_images_in_memory(classes, indices, threads):
    images = folder(classes, classes=10).open("train")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, expected = images.batch(indices), images.load().batch(indices)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.pixels, expected.pixels)
    assert torch.equal(found.labels, expected.labels)


def test_images_on_a_device_give_batches_there(digits):
    batch = folder(digits).open("train").to("meta").batch([0])
    assert (batch.pixels.device.type, batch.labels.device.type) == ("meta", "meta")


def test_the_shape_and_the_classes_are_known_without_the_folder():
    part = ImageFolder(path="nowhere", image_size=64)
    assert (part.shape, part.num_classes) == ((3, 64, 64), 1)
    part = ImageFolder(path="nowhere", image_size=32, channels=1, classes=7)
    assert (part.shape, part.num_classes) == ((1, 32, 32), 7)


def test_colours_of_several_sizes_are_brought_to_one(tmp_path):
    sizes = [(8, 8), (16, 16), (8, 12), (20, 16)]
    pictures = [np.random.default_rng(k).integers(0, 64, (*size, 3), dtype=np.uint8) * 4 for k, size in enumerate(sizes)]
    for k, picture in enumerate(pictures):
        write(tmp_path / f"{k}.png", picture)
    found = folder(tmp_path, channels=3, filter="box").open("train").load().pixels
    # The middle square, then the mean over blocks of 2x2 where it has 16 pixels.
    squares = [pictures[0], pictures[1], pictures[2][:, 2:10], pictures[3][2:18]]
    small = [s if len(s) == 8 else s.reshape(8, 2, 8, 2, 3).astype(int).sum((1, 3)) // 4 for s in squares]
    expected = np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1
    assert torch.equal(found, torch.from_numpy(expected))


def test_a_path_is_relative_to_where_the_program_runs_or_to_home(tmp_path, monkeypatch):
    write(tmp_path / "pictures" / "a.png", DIGITS[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("pictures", "~/pictures"):
        assert folder(path).root == tmp_path / "pictures"
        assert len(folder(path).open("train")) == 1


def test_labels_are_the_sub_folders_in_the_order_of_their_names(classes):
    images = folder(classes, classes=10).open("train")
    assert images.batch(range(40)).labels.tolist() == sorted(TARGETS)
    for k in (0, 17, 39):
        assert images.names[k].startswith(f"{images.labels[k]}/")


def test_another_number_of_classes_than_declared_is_refused(classes):
    assert failure(folder(classes, classes=9)) == (
        f"data.classes: 9, but {classes} has 10 sub-folders with images (0, 1, 2, 3, 4, 5, 6, 7, ...); give that number"
    )


def test_an_image_outside_of_the_classes_is_refused(tmp_path):
    write(tmp_path / "cats" / "a.png", DIGITS[0])
    write(tmp_path / "stray.png", DIGITS[1])
    expected = f"{tmp_path / 'stray.png'}: is in no class; move it to a sub-folder, or set data.classes=null for no labels"
    assert failure(folder(tmp_path, classes=1)) == expected


@pytest.mark.parametrize(("held_out", "expected"), [(0.2, 8), (7, 7), (0, 0), (0.0, 0), (39, 39), (0.0625, 2), (0.97, 39)])
def test_a_share_or_a_number_of_images_is_held_out(digits, held_out, expected):
    # Halves to even: 0.0625 * 40 = 2.5.
    part = folder(digits, held_out=held_out)
    train, test = part.open("train"), part.open("test")
    assert (len(train), len(test)) == (40 - expected, expected)
    assert sorted([*train.names, *test.names]) == folder(digits).open("train").names
    for images in (train, test):
        assert images.names == sorted(images.names)


def test_labels_go_with_their_images_into_the_splits(classes):
    part = folder(classes, classes=10, held_out=0.5)
    for split in ("train", "test"):
        images = part.open(split)
        assert images.batch(range(20)).labels.tolist() == [int(name[0]) for name in images.names]


def test_the_seed_decides_which_images_are_held_out(digits):
    names = [tuple(folder(digits, held_out=10, split_seed=seed).open("test").names) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("held_out", [40, 0.99, 0.01])
def test_a_split_without_images_is_refused_before_any_is_read(digits, held_out):
    assert failure(folder(digits, held_out=held_out)).startswith(f"data.held_out: {held_out} of 40 images ")


def test_where_nothing_is_held_out_the_test_split_is_empty_and_cannot_be_measured(digits):
    images = folder(digits).open("test")
    assert len(images) == 0
    assert images.digest() != folder(digits).open("train").digest()
    with pytest.raises(DataError, match=r"^data.held_out: no image is held out"):
        images.load()


@pytest.mark.parametrize("held_out", [-1, -0.1, 1.0, 2.5])
def test_a_held_out_part_that_is_neither_share_nor_number_is_refused(held_out):
    expected = f"held_out: {held_out}: is no part of the images; give a share below 1, or a whole number of images, 0 for none"
    assert problem(held_out=held_out).endswith(expected)


def test_fields_with_no_sense_are_refused():
    assert problem(image_size=0).endswith("image_size: found 0; give a value above 0")
    assert problem(channels=2).endswith("channels: found 2; give 1 or 3")
    assert problem(filter="nearest").endswith("give 'lanczos', 'bicubic', 'hamming', 'bilinear' or 'box'")
    assert problem(extensions=["png", "tiff"]).endswith("extensions.1: found 'tiff'; give 'png', 'jpg', 'jpeg' or 'webp'")
    assert "path" in problem(path="")


def test_a_part_comes_back_from_its_dump(digits):
    for part in (folder(digits, held_out=3, classes=2, extensions=("png",)), folder(digits, held_out=0.5), datasets.create("ffhq")):
        assert datasets.parse(part.model_dump(mode="json")) == part
        assert type(datasets.parse(part.model_dump(mode="json")).held_out) is type(part.held_out)


def test_opening_reads_no_image_and_a_damaged_one_is_named_when_its_batch_is_asked_for(tmp_path):
    for k in range(4):
        write(tmp_path / f"{k}.png", DIGITS[k])
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    part = folder(tmp_path)
    part.check()
    images = part.open("train")
    assert torch.equal(images.batch([3, 0]).pixels, to_uint8(DIGITS[[3, 0]]))
    with pytest.raises(DataError, match=rf"^{tmp_path / '2.png'}: cannot be decoded"):
        images.batch([3, 2, 0])


def test_a_file_that_vanishes_after_opening_is_named(tmp_path):
    write(tmp_path / "a.png", DIGITS[0])
    images = folder(tmp_path).open("train")
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=rf"^{tmp_path / 'a.png'}: cannot be read \(No such file or directory\)"):
        images.batch([0])


def test_a_digest_is_the_sha256_of_size_filter_names_labels_and_contents(tmp_path):
    write(tmp_path / "x" / "a.png", DIGITS[0])
    write(tmp_path / "y" / "é.png", DIGITS[1])
    files = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("x/a.png", "y/é.png")]
    content = f"(1, 8, 8)lanczos\n{files[0]} 0 x/a.png\n{files[1]} 1 y/é.png"
    assert folder(tmp_path, classes=2).open("train").digest() == hashlib.sha256(content.encode()).hexdigest()


def test_a_digest_changes_with_whatever_changes_an_image(tmp_path):
    def digest(**fields):
        return folder(tmp_path, **fields).open("train").digest()

    for k in range(4):
        write(tmp_path / "a" / f"{k}.png", DIGITS[k])
    first = digest()
    assert digest() == digest(count=4) == digest(source="a friend") == first
    others = [digest(image_size=4), digest(channels=3), digest(filter="box"), digest(held_out=1)]
    write(tmp_path / "a" / "3.png", DIGITS[4])
    others.append(digest())
    (tmp_path / "a" / "3.png").rename(tmp_path / "a" / "4.png")
    others.append(digest())
    assert len({first, *others}) == 7


def test_a_digest_does_not_depend_on_where_the_folder_lies(digits, tmp_path):
    (tmp_path / "elsewhere").symlink_to(digits)
    assert folder(tmp_path / "elsewhere").open("train").digest() == folder(digits).open("train").digest()


def test_a_missing_folder_is_named_with_the_layout_that_is_expected_and_the_field_that_moves_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, expected, put = failure(folder("none", classes=10)).splitlines()
    assert found == f"data.path: {tmp_path / 'none'} is no folder"
    assert expected.startswith(
        "expected in this folder: PNG, JPEG or WebP images, in one sub-folder for each of 10 classes, of 8x8 pixels or larger;"
    )
    assert put == "put the images there, or name another folder with data.path=FOLDER"


def test_a_folder_without_images_is_refused_with_the_accepted_extensions(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "a.bmp").write_bytes(b"")
    assert failure(folder(tmp_path)).startswith(f"data.path: {tmp_path} holds no image files (png, jpg, jpeg, webp)\n")
    assert failure(folder(tmp_path, extensions=("png",))).startswith(f"data.path: {tmp_path} holds no image files (png)\n")


@pytest.mark.parametrize("count", [39, 41])
def test_another_number_of_images_than_declared_is_refused(digits, count):
    folder(digits, count=40).check()
    found, expected, put = failure(folder(digits, count=count)).splitlines()
    assert found == f"data.path: {digits} holds 40 images, not {count}"
    assert expected.startswith(f"expected in this folder: {count} PNG, JPEG or WebP images, of")
    assert put.endswith("; if these are all, set data.count=40")


def test_images_are_the_same_after_pickling(classes):
    images = folder(classes, classes=10, held_out=0.5).open("test")
    images.batch([0])
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(copy.load().pixels, images.load().pixels)
    assert torch.equal(copy.labels, images.labels)
    assert copy.digest() == images.digest()


def test_batches_are_all_images_in_order(digits):
    images = folder(digits).open("train")
    assert isinstance(images, EncodedImages)
    assert isinstance(images.load(), LoadedImages)
    assert torch.equal(torch.cat([batch.pixels for _, batch in images.batches(7)]), to_uint8(DIGITS))
