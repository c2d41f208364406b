"""Several sources as one: order, shares, labels, splits and digests."""

import pickle

import numpy as np
import pytest
import torch
from image_layouts import LABELS, LAYOUTS, N
from scipy.stats import chisquare

from etsdm.data import Augmentation, Digits, LoadedImages, TrainingLoader
from etsdm.data.order import BLOCK, WeightedOrder
from etsdm.data.sources.join import JoinedImages
from etsdm.errors import DataError, EtsdmError
from etsdm.registry import datasets


@pytest.fixture(scope="module")
def sources(written):
    """The pictures as a zip and as an LMDB, 25 and 5 of each."""
    return [LAYOUTS[name].part(written(LAYOUTS[name])) for name in ("zip", "lmdb")]


def join(sources, **fields):
    return datasets.create("join", sources=sources, **fields)


def test_images_follow_each_other_and_splits_are_joined(sources):
    part = join(sources)
    part.check()
    assert (part.shape, part.num_classes, part.holds_out, part.crops_at_random) == ((3, 32, 32), 3, True, True)
    assert [done for done, _ in part.check_files()] == [N, N]
    for split in ("train", "test"):
        images, parts = part.open(split), [source.open(split) for source in sources]
        assert len(images) == sum(map(len, parts))
        loaded = images.load()
        assert torch.equal(loaded.pixels, torch.cat([one.load().pixels for one in parts]))
        assert torch.equal(images.class_labels(), torch.cat([one.class_labels() for one in parts]))
        mixed = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        assert torch.equal(images.batch(mixed).pixels, loaded.pixels[mixed])
        assert torch.equal(images.batch(mixed).labels, loaded.labels[mixed])
        assert images.batch([]).pixels.shape == (0, 3, 32, 32)
        with pytest.raises(IndexError):
            images.read([len(images)])


def test_classes_are_shared_or_offset(sources):
    part = join(sources, classes="offset")
    assert part.num_classes == 6
    labels = part.open("train").class_labels()
    assert torch.equal(labels[25:], labels[:25] + 3)
    assert torch.equal(part.open("train").read(range(50))[1], labels)
    assert join([*sources, sources[0].model_copy(update={"classes": None})], classes="offset").num_classes == 7


def test_without_weights_each_image_comes_once_an_epoch(sources):
    order = join(sources).open("train").order(3)
    assert order.indices(50, 50).sort().values.tolist() == list(range(50))


def test_weighted_sources_come_in_proportion_and_their_images_equally_often():
    order = WeightedOrder([7, 30, 3], [1, 2, 5], seed=0)
    found = order.indices(0, 3 * BLOCK)
    counts = torch.bincount(found, minlength=40)
    assert [int(counts[a:b].sum()) for a, b in ((0, 7), (7, 37), (37, 40))] == [3 * BLOCK // 8, 3 * BLOCK // 4, 15 * BLOCK // 8]
    for a, b in ((0, 7), (7, 37), (37, 40)):
        assert counts[a:b].max() - counts[a:b].min() <= 1
    # Also in the middle of a block, and in no pattern: a source's places are spread as independent draws are.
    early = torch.bincount(torch.bucketize(found[:4000], torch.tensor([7, 37]), right=True), minlength=3)
    assert chisquare(early.numpy(), [500, 1000, 2500]).pvalue > 1e-4
    source = torch.bucketize(found[:BLOCK], torch.tensor([7, 37]), right=True)
    pairs = torch.bincount(3 * source[:-1] + source[1:], minlength=9)
    share = np.array([1, 2, 5]) / 8
    assert chisquare(pairs.numpy(), np.outer(share, share).ravel() * (BLOCK - 1)).pvalue > 1e-4


@pytest.mark.parametrize("start", [0, 1, 999, BLOCK - 3, BLOCK, 5 * BLOCK + 17])
def test_the_order_is_a_function_of_seed_and_images_seen(start):
    whole = WeightedOrder([7, 30], [0.3, 0.7], seed=4).indices(0, 6 * BLOCK)
    fresh = WeightedOrder([7, 30], [0.3, 0.7], seed=4)
    assert torch.equal(fresh.indices(start, 500), whole[start : start + 500])
    assert torch.equal(torch.cat([fresh.indices(start + k, 1) for k in range(20)]), whole[start : start + 20])
    assert not torch.equal(WeightedOrder([7, 30], [0.3, 0.7], seed=5).indices(start, 500), whole[start : start + 500])
    assert len(fresh.indices(3, 0)) == 0


def test_a_share_is_kept_to_one_image_in_a_block():
    shares = WeightedOrder.check_weights([1, 1, 1])
    assert (sum(shares), max(shares) - min(shares)) == (BLOCK, 1)
    assert WeightedOrder.check_weights([0.3, 0.7])[0] == pytest.approx(0.3 * BLOCK, abs=1)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 3])
def test_a_training_reads_the_same_with_any_number_of_threads_and_processes(sources, workers, ranks):
    images = join(sources, weights=[3, 1]).open("train")
    augmentation = Augmentation(flip=True, random_crop=0.5)

    def read(workers, ranks, rank):
        fields = {"batch_size": 8, "end": 64, "augmentation": augmentation, "workers": workers, "rank": rank, "world_size": ranks}
        loader = TrainingLoader(images, 1, **fields)
        return torch.cat([loader.batch(seen).pixels for seen in range(0, 64, 8)])

    whole = read(0, 1, 0)
    for rank in range(ranks):
        assert torch.equal(read(workers, ranks, rank), whole[rank::ranks])


def test_digest_files_and_identity_are_those_of_all_sources_wherever_they_are(sources, tmp_path):
    part = join(sources, weights=[1, 2])
    images = part.open("train")
    assert images.digest() == join(sources, weights=[1, 2]).open("train").digest()
    assert images.digest() != join(sources[:1]).open("train").digest()
    assert images.digest() != join(sources, classes="offset").open("train").digest()
    assert part.files().content != join(sources[:1]).files().content
    moved = [source.model_copy(update={"path": f"{source.path}/../{source.path.rpartition('/')[2]}"}) for source in sources]
    assert join(moved, weights=[1, 2]).identity() == part.identity() != join(sources, weights=[2, 1]).identity()
    missing = sources[0].model_copy(update={"path": str(tmp_path / "none")})
    assert join([missing, sources[1]]).files().content is None
    with pytest.raises(DataError, match=r"none is no file"):
        join([missing, sources[1]]).check()
    assert join(["digits"]).files() is None
    assert datasets.parse(part.model_dump(mode="json")) == part
    assert torch.equal(pickle.loads(pickle.dumps(images)).read([0, 30])[0], images.read([0, 30])[0])


def test_mixtures_join_as_mixtures():
    dots = {"type": "mixture", "means": [[0.0]], "image_shape": [1, 8, 8], "n": 20}
    part = join([dots, dots])
    assert not part.are_pictures
    assert not part.open("train").are_pictures
    assert part.open("train").in_memory


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"sources": ["digits", "cifar10"]},
            r"sources\.1: images of 'cifar10' are 3x32x32, and .* 1x8x8; give one shape",
        ),
        ({"sources": ["digits", {"type": "join", "sources": ["digits"]}]}, r"sources\.1: is a join itself; list its sources here"),
        ({"sources": [{"type": "latents", "path": "x"}]}, r"sources\.0: 'latents' holds latents; join the images, and encode the join"),
        ({"sources": ["digits"], "weights": [1, 2]}, r"weights: 2 for 1 sources; give one for each"),
        (
            {"sources": ["digits", "digits"], "weights": [1, 1e-6]},
            r"weights\.1: 1e-06 is less than one image in 16,384; give more, or leave",
        ),
        ({"sources": ["digits", "digits"], "weights": [1, 0]}, r"weights\.1"),
        ({"sources": []}, r"sources"),
        (
            {"sources": ["digits", {"type": "mixture", "means": [[0]], "image_shape": [1, 8, 8]}]},
            r"sources\.1: 'mixture' and 'digits' are not both",
        ),
        ({"sources": ["digits", {"type": "zip", "path": "x"}]}, r"sources\.1.*image_size"),
    ],
)
def test_sources_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(EtsdmError, match=message):
        datasets.create("join", **fields)


def test_labels_of_all_pictures_are_known(sources):
    whole = [source.model_copy(update={"held_out": 0}) for source in sources]
    assert join(whole).open("train").class_labels().tolist() == [*LABELS, *LABELS]


def test_levels_and_values_join_as_values():
    levels, values = LoadedImages(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.zeros(2).long()), Digits().open("test")
    images = JoinedImages([levels, LoadedImages(values.pixels[:3, :, :1, :1], values.labels[:3])], [0, 0], None)
    assert torch.equal(
        images.batch([1, 2, 0]).pixels.flatten(), torch.stack([torch.tensor(1.0), values.pixels[0, 0, 0, 0], torch.tensor(-1.0)])
    )
