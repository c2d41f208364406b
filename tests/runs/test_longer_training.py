"""Trainings of another length: one that differs in `training.images` alone goes on from the checkpoint of the other, to the same bits."""

from pathlib import Path

import pytest

import etsdm
from etsdm.training.lr_schedules import ConstantLR

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SMALL = ("training.lr_schedule=constant", "evaluation.metrics=[]", "training.keep_checkpoints=3")


def run(out, *overrides, arm="baseline"):
    return etsdm.build(TINY, *SMALL, *overrides, out=out).arm(arm).runs[0]


def train(out, *overrides):
    """Trains. Returns: the run, and the images seen that were shown."""
    one = run(out, *overrides)
    return one, [progress.done for progress in one.run(("train",)) if not progress.reused]


def weights(one, images):
    """Bytes of all that is trained."""
    folder = one.train.folder.checkpoint_at(images)
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("weights", "current", "training")]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A training of 512 images from the start."""
    one, seen = train(tmp_path_factory.mktemp("straight"), "training.images=512")
    assert seen[0] == 0
    return one


@pytest.mark.parametrize(
    ("length", "start"),
    [
        (320, 320),
        (256, 256),
        (300, 288),  # whose last batch has 12 images, not 32
    ],
)
def test_a_longer_training_goes_on_from_the_end_of_the_shorter_and_gives_the_same_bits(tmp_path, straight, length, start):
    # Intervals that differ change no weight.
    short, _ = train(tmp_path, f"training.images={length}", "training.checkpoint_every=32", "training.log_every=32")
    before = files(short.train.folder.path)
    planned, *_ = run(tmp_path, "training.images=512").plan()
    assert (planned.done, planned.total, planned.finished) == (start, 512, False)
    assert planned.again == (f"training.images {length} -> 512",)
    assert planned.goes_on_from == f"{short.train.folder.path.name}/{start:012d}"
    one, seen = train(tmp_path, "training.images=512")
    assert (seen[0], seen[-1]) == (start, 512)
    assert weights(one, 512) == weights(straight, 512)
    kept = {path: content for path, content in files(short.train.folder.path).items() if path.name != ".lock"}
    assert kept == {path: content for path, content in before.items() if path.name != ".lock"}
    assert one.is_done("train")


def test_a_longer_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path, straight):
    train(tmp_path, "training.images=320")
    one = run(tmp_path, "training.images=512")
    for progress in one.run(("train",)):
        if progress.done >= 400:
            break
    assert run(tmp_path, "training.images=512").plan(("train",))[0].done == 384
    one, seen = train(tmp_path, "training.images=512")
    assert seen[0] == 384
    assert weights(one, 512) == weights(straight, 512)


def test_a_shorter_training_takes_the_checkpoint_of_its_length(tmp_path, straight):
    long, _ = train(tmp_path, "training.images=512")
    assert [path.name for path in long.train.folder.all_checkpoints()] == ["000000000256", "000000000384", "000000000512"]
    one, seen = train(tmp_path, "training.images=384")
    assert set(seen) == {384}
    assert weights(one, 384) == weights(long, 384)
    assert weights(long, 512) == weights(straight, 512)
    assert one.is_done("train")
    assert one.train.folder.finished().log[-1]["images_seen"] == 384
    # Of a length between two checkpoints, the one before.
    _, seen = train(tmp_path, "training.images=330")
    assert (seen[0], seen[-1]) == (256, 330)


def test_a_training_shorter_than_every_checkpoint_begins_again_and_says_so(tmp_path):
    long, _ = train(tmp_path, "training.images=512")
    before = weights(long, 512)
    [planned] = run(tmp_path, "training.images=192").plan(("train",))
    assert (planned.done, planned.goes_on_from) == (0, None)
    assert planned.again == ("training.images 512 -> 192", "no checkpoint that this training passes through is kept")
    _, seen = train(tmp_path, "training.images=192")
    assert seen[0] == 0
    assert weights(long, 512) == before


def test_a_rate_that_depends_on_the_length_starts_the_training_again_and_names_the_field(tmp_path):
    decay = "training.lr_schedule=cosine"
    short, _ = train(tmp_path, "training.images=320", decay)
    [planned] = run(tmp_path, "training.images=512", decay).plan(("train",))
    assert (planned.done, planned.goes_on_from) == (0, None)
    assert planned.again[0] == "training.images 320 -> 512"
    assert "training.lr_schedule cosine depends on it" in planned.again[1]
    _, seen = train(tmp_path, "training.images=512", decay)
    assert seen[0] == 0
    assert short.train.is_done()


@pytest.mark.parametrize("override", ["training.learning_rate=1e-3", "training.batch_size=16", "seeds=[1]", "training.ema=0.5"])
def test_a_training_with_another_field_changed_begins_at_the_first_image(tmp_path, override):
    train(tmp_path, "training.images=64", "training.warmup_images=0")
    _, seen = train(tmp_path, "training.images=96", "training.warmup_images=0", override)
    assert seen[0] == 0


def test_a_damaged_checkpoint_of_another_length_is_passed_over(tmp_path, straight):
    short, _ = train(tmp_path, "training.images=320")
    (short.train.folder.checkpoint_at(320) / "current.safetensors").write_bytes(b"cut short")
    (short.train.folder.checkpoint_at(256) / "training.json").write_text("{}")
    one, seen = train(tmp_path, "training.images=512")
    assert seen[0] == 128
    assert weights(one, 512) == weights(straight, 512)


def test_a_schedule_that_ignores_the_length_says_so():
    rates = {length: ConstantLR().factor(100, 10, length) for length in (200, 1000)}
    assert not ConstantLR.uses_length
    assert len(set(rates.values())) == 1
