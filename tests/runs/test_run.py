"""Stages of a run: done once, in order, and again only where something they depend on changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import etsdm
from etsdm.checkpoints import checkpoint_folder
from etsdm.data import Digits
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import DataError, IntegrityError
from etsdm.randomness import SampleNoise, generator, per_sample_normal
from etsdm.runs import STAGES
from etsdm.runs.folder import RunFolder
from etsdm.storage.files import digest_of

RECIPES = Path(__file__).parents[1] / "recipes"
SPEED = ("images_per_second", "seconds", "data_seconds")  # fields of a log record
TINY, SUPER_RESOLUTION = RECIPES / "tiny.yaml", RECIPES / "super_resolution.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the tiny recipe has run."""
    out = tmp_path_factory.mktemp("finished")
    etsdm.build(TINY, out=out).run()
    return out


@pytest.fixture
def out(finished, tmp_path):
    """A copy of it to spoil."""
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def redone(out, *overrides, arm="e-tsdm"):
    """The stages that a run does, with changes."""
    run = etsdm.build(TINY, *overrides, out=out).arm(arm).runs[0]
    done = []
    for progress in run.run():
        if not progress.reused and progress.stage not in done:
            done.append(progress.stage)
    return done


def test_a_second_run_does_nothing(out):
    assert redone(out) == []


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("training.learning_rate=1e-3", ["train", "sample", "evaluate"]),
        ("model.target=v", ["train", "sample", "evaluate"]),
        ("seeds=[3]", ["train", "sample", "evaluate"]),
        ("sampling.n=24", ["sample", "evaluate"]),
        ("sampling.sampler.eta=1.0", ["sample", "evaluate"]),
        ("evaluation.seed=1", ["evaluate"]),
        ("evaluation.metrics.0.coarse=4", ["evaluate"]),
        # Changes that no number depends on.
        ("training.log_every=32", []),
        ("training.checkpoint_every=64", []),
        ("sampling.batch_size=16", []),
        ("compute.threads=2", []),
        ("description=another", []),
    ],
)
def test_a_changed_field_redoes_the_stages_that_depend_on_it(out, override, stages):
    assert redone(out, override) == stages
    assert redone(out, override) == []


def test_going_back_to_an_earlier_recipe_finds_what_it_trained(out):
    assert redone(out, "training.learning_rate=1e-3") == ["train", "sample", "evaluate"]
    assert redone(out) == ["sample", "evaluate"]
    assert redone(out, "training.learning_rate=1e-3") == ["sample", "evaluate"]


def test_the_folders_recipe_is_the_one_that_was_last_carried_out(out):
    redone(out, "sampling.n=24")
    assert etsdm.build(out / "tiny/e-tsdm/recipe.yaml").recipe.sampling.n == 24


def test_a_stage_whose_files_are_gone_is_done_again(out):
    folder = RunFolder(out / "tiny/e-tsdm")
    (folder.path / folder.manifest().values[0].file).unlink()
    assert redone(out) == ["evaluate"]


def test_samples_that_are_gone_are_drawn_again_and_no_others(out):
    files = {file: file.read_bytes() for file in sorted((out / "tiny/e-tsdm/samples/default").glob("*.safetensors"))}
    assert [file.name for file in files] == ["00000000-00000008.safetensors", "00000008-00000016.safetensors"]
    times = {file: file.stat().st_mtime_ns for file in files}
    first, second = files
    second.unlink()
    assert redone(out) == ["sample"]
    assert {file: file.read_bytes() for file in files} == files
    assert first.stat().st_mtime_ns == times[first]


def test_samples_in_a_form_that_is_not_ours_are_drawn_again_in_their_place(out, finished):
    folder = out / "tiny/e-tsdm/samples/default"
    expected = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "stage.json"}
    for file in folder.glob("*-*.safetensors"):
        file.unlink()
    (folder / "samples.safetensors").write_bytes(b"all of them, as they were kept before")
    assert redone(out) == ["sample"]
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "stage.json"} == expected


def test_what_an_earlier_recipe_trained_stays_where_it_is(out):
    old = checkpoint_folder(out / "tiny/e-tsdm")
    content = (old / "weights.safetensors").read_bytes()
    redone(out, "training.learning_rate=1e-3")
    assert checkpoint_folder(out / "tiny/e-tsdm") != old
    assert (old / "weights.safetensors").read_bytes() == content
    assert etsdm.build(old.parents[1] / "recipe.yaml").recipe.training.learning_rate == 2e-3


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(finished, tmp_path):
    run = etsdm.build(TINY, out=tmp_path).arm("baseline").runs[0]
    for progress in run.run(("train",)):
        if progress.done >= 288:
            break
    seen = [progress.done for progress in run.run(("train",))]
    assert seen[0] == 256
    folders = [checkpoint_folder(base / "tiny/baseline") for base in (tmp_path, finished)]
    assert folders[0].name == "000000000320"
    assert (folders[0] / "weights.safetensors").read_bytes() == (folders[1] / "weights.safetensors").read_bytes()
    logs = [[json.loads(line) for line in (folder.parents[1] / "log.jsonl").read_text().splitlines()] for folder in folders]
    without_speed = [[{k: v for k, v in record.items() if k not in SPEED} for record in log] for log in logs]
    assert without_speed[0] == without_speed[1]


def test_a_sampling_that_was_stopped_goes_on_to_the_same_bits(out, finished):
    run = etsdm.build(TINY, "sampling.batch_size=4", out=out).arm("e-tsdm").runs[0]
    shutil.rmtree(run.folder.samples("default").path)
    for progress in run.run(("sample",)):
        if progress.stage == "sample" and progress.done >= 9:
            break
    assert not run.folder.samples("default").grid_file.exists()
    seen = [progress.done for progress in run.run(("sample",)) if progress.stage == "sample"]
    assert (seen[0], seen[-1]) == (8, 16)
    alone = etsdm.sample(run.load_denoiser(), 16, sampler=run.recipe.sampling.sampler, batch_size=4)
    assert torch.equal(run.samples.load().pixels, alone)


def test_a_sampling_that_was_stopped_is_not_mixed_with_another(out):
    for override in ("sampling.seed=1", "sampling.seed=2"):
        run = etsdm.build(TINY, override, "sampling.batch_size=4", out=out).arm("e-tsdm").runs[0]
        for progress in run.run(("sample",)):
            if override.endswith("1") and progress.stage == "sample" and progress.done >= 9:
                break
        # What was there is gone, and the record that still speaks of it is not believed.
        assert not etsdm.build(TINY, out=out).arm("e-tsdm").runs[0].is_done("sample")
    drawn = etsdm.sample(run.load_denoiser(), 16, sampler=run.recipe.sampling.sampler, batch_size=4, seed=2)
    assert torch.equal(run.samples.load().pixels, drawn)


def test_samples_come_a_batch_at_a_time_with_the_classes_they_were_drawn_for(finished, tmp_path):
    run = etsdm.build(TINY, out=finished).arm("e-tsdm").runs[0]
    drawn = run.samples.load()
    assert (len(run.samples), drawn.pixels.shape) == (16, (16, 1, 8, 8))
    assert drawn.labels.tolist() == [0] * 16  # the network knows no classes
    batches = [(indices, batch.pixels) for indices, batch in run.samples.batches(5)]
    assert [indices for indices, _ in batches] == [range(5), range(5, 10), range(10, 15), range(15, 16)]
    assert torch.equal(torch.cat([pixels for _, pixels in batches]), drawn.pixels)
    told = etsdm.build(TINY, "model.backbone.num_classes=10", out=tmp_path).arm("e-tsdm").runs[0]
    list(told.run(("sample",)))
    assert told.samples.batch([3, 12]).labels.tolist() == [3, 2]


def test_samples_that_were_not_drawn_are_missed_by_number(tmp_path):
    run = etsdm.build(TINY, out=tmp_path).arm("baseline").runs[0]
    with pytest.raises(IntegrityError, match=r"samples/default: image 4 is missing, or its file is damaged; generate the samples again$"):
        run.samples.batch([9, 4])


def test_arms_start_from_the_same_weights_and_see_the_same_images(tmp_path):
    runs = etsdm.build(TINY, out=tmp_path).runs
    first, second = (run.load_denoiser().backbone.state_dict() for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_condition_map_travels_with_the_checkpoint(finished):
    e_tsdm, baseline = (etsdm.load(finished / "tiny" / arm) for arm in ("e-tsdm", "baseline"))
    t = torch.arange(0.0, 101.0)
    assert torch.equal(e_tsdm.condition(t)[:40], torch.tensor([0.0] * 20 + [20.0] * 20))
    assert torch.equal(baseline.condition(t), t)


def test_k_is_exactly_zero_inside_the_sub_intervals_and_not_for_the_baseline(finished):
    images = etsdm.data.Digits().open("train").pixels[:4]
    inside = [t for t in range(99) if (t + 1) % 20]
    edges = [19, 39, 59, 79, 99]
    e_tsdm, baseline = (etsdm.load(finished / "tiny" / arm) for arm in ("e-tsdm", "baseline"))
    assert etsdm.lipschitz_curve(e_tsdm, images, inside).mean.abs().max() == 0
    assert (etsdm.lipschitz_curve(e_tsdm, images, edges).mean > 0).all()
    assert (etsdm.lipschitz_curve(baseline, images, inside).mean > 0).all()


def test_a_checkpoint_without_the_whole_state_is_no_finished_training(out):
    shutil.rmtree(checkpoint_folder(out / "tiny/e-tsdm"))
    assert redone(out)[0] == "train"


def test_every_value_carries_its_protocol(finished):
    def records(arm):
        folder = RunFolder(finished / "tiny" / arm)
        return [json.loads((folder.path / entry.file).read_text()) for entry in folder.manifest().values]

    found = records("e-tsdm")
    assert [one["protocol"]["metric"]["type"] for one in found] == ["loss-per-t", "lipschitz", "pixel-frechet", "recognition"]
    for one in found:
        assert one["protocol_digest"] == digest_of(one["protocol"])
        assert len(one["protocol"]["data"]["train"]) == 64
    drawn = found[2]["protocol"]["samples"]
    assert (drawn["n"], drawn["nfe"], drawn["seed"]) == (16, 3, 0)
    assert found[0]["protocol"]["samples"] is None
    assert [one["protocol_digest"] for one in found] == [one["protocol_digest"] for one in records("baseline")]


def test_stages_are_recorded_with_what_they_depend_on(finished):
    run = etsdm.build(TINY, out=finished).arm("e-tsdm").runs[0]
    assert run.train.folder.finished().digest == run.digests.train
    assert run.folder.samples("default").finished().digest == run.digests.samples["default"]
    manifest = run.folder.manifest()
    assert (manifest.train, manifest.samples) == (run.digests.train, run.digests.samples)
    assert {entry.file: entry.digest for entry in manifest.values} == {
        f"values/{key}.json": digest for key, digest in run.digests.values.items()
    }
    for entry in manifest.values:
        assert json.loads((run.folder.path / entry.file).read_text())["digest"] == entry.digest


def test_samples_are_drawn_without_the_data_and_not_measured(tmp_path):
    (tmp_path / "images").mkdir()
    for k, image in enumerate(np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)):
        Image.fromarray(image).save(tmp_path / f"images/{k:02d}.png")
    data = f"data={{type: image-folder, path: {tmp_path}/images, image_size: 8, channels: 1, held_out: 2}}"
    small = ("training.images=32", "training.warmup_images=0", "evaluation.metrics=[{type: loss-per-t, fine: 1, coarse: 3}]")

    def run(*overrides, recipe=TINY):
        return etsdm.build(recipe, data, *small, *overrides, out=tmp_path / "runs").arm("baseline").runs[0]

    for recipe in (TINY, SUPER_RESOLUTION):
        list(run(recipe=recipe).run(("train",)))
    shutil.rmtree(tmp_path / "images")
    list(run().run(("sample",)))
    assert run().samples.load().pixels.shape == (16, 1, 8, 8)
    for refused, stages in (
        (run(), STAGES),
        (run("training.learning_rate=1e-3"), ("train", "sample")),
        (run(recipe=SUPER_RESOLUTION), ("sample",)),  # made of small images of the data
    ):
        with pytest.raises(DataError, match=rf"^data.path: {tmp_path}/images is no folder"):
            list(refused.run(stages))


def test_super_resolution_trains_samples_and_is_measured(tmp_path):
    [run] = etsdm.build(SUPER_RESOLUTION, out=tmp_path).arm("e-tsdm").runs
    list(run.run())
    assert run.samples.load().pixels.shape == (8, 1, 8, 8)
    assert run.samples.load().pixels.abs().max() <= 1
    assert run.results["lipschitz"].curves["lipschitz"].mean[:19] == (0.0,) * 19
    # Sample k is made of held-out image k, reduced.
    denoiser = etsdm.load(tmp_path / "super_resolution/e-tsdm")
    low_res = denoiser.spec.super_resolution.reduce(Digits().open("test").pixels[:8])
    again = etsdm.sample(denoiser, 8, sampler=run.recipe.sampling.sampler, seed=0, low_res=low_res)
    torch.testing.assert_close(again, run.samples.load().pixels, rtol=1e-4, atol=1e-5)
    other = etsdm.sample(denoiser, 8, sampler=run.recipe.sampling.sampler, seed=0, low_res=low_res.flip(0))
    assert not torch.allclose(other, run.samples.load().pixels, atol=1e-3)
    with pytest.raises(ValueError, match=r"^low_res: .*needs the low-resolution images"):
        etsdm.sample(denoiser, 2)


def test_more_samples_of_super_resolution_than_held_out_images_take_them_in_turn(tmp_path):
    overrides = ("data.held_out=0.002", "sampling.n=6", "sampling.sampler.steps=1", "training.images=64", "evaluation.metrics=[]")
    [run] = etsdm.build(SUPER_RESOLUTION, *overrides, out=tmp_path).arm("baseline").runs
    list(run.run())
    assert len(Digits(held_out=0.002).open("test")) == 4
    denoiser = etsdm.load(tmp_path / "super_resolution/baseline")
    low_res = denoiser.spec.super_resolution.reduce(Digits(held_out=0.002).open("test").pixels)[[0, 1, 2, 3, 0, 1]]
    again = etsdm.sample(denoiser, 6, sampler=run.recipe.sampling.sampler, low_res=low_res)
    torch.testing.assert_close(again, run.samples.load().pixels, rtol=1e-4, atol=1e-5)


def test_a_learned_variance_is_trained_sampled_and_measured(tmp_path):
    overrides = (
        "model.backbone.out_channels=2",
        "training.loss=hybrid",
        "training.images=96",
        "sampling.n=4",
        "training.learning_rate=0.01",
    )
    overrides += ("evaluation.metrics=[{type: loss-per-t, fine: 1, coarse: 3}, {type: lipschitz, images: 4, stop: 24}]",)
    [run] = etsdm.build(TINY, *overrides, out=tmp_path).arm("e-tsdm").runs
    list(run.run())
    assert run.samples.load().pixels.shape == (4, 1, 8, 8)
    assert run.samples.load().pixels.isfinite().all()
    assert run.results.keys() == {"loss-per-t", "lipschitz"}
    found = run.load_denoiser().predict(torch.zeros(1, 1, 8, 8), 500)
    assert found.variance_logit.abs().max() > 0  # a network starts at zero


def test_a_samples_label_goes_by_its_index_and_the_null_class_is_left_out(tmp_path):
    # Trained for long enough that its samples look at labels.
    overrides = (
        "model.backbone.num_classes=11",
        "training.label_dropout=0.2",
        "training.images=640",
        "training.learning_rate=0.01",
        "sampling.n=12",
        "sampling.batch_size=8",
        "sampling.sampler.steps=2",
        "evaluation.metrics=[]",
    )
    [run] = etsdm.build(TINY, *overrides, out=tmp_path).arm("baseline").runs
    list(run.run())
    denoiser, drawn = etsdm.load(tmp_path / "tiny/baseline"), run.samples.load()

    def with_labels(y):
        return etsdm.sample(denoiser, 12, sampler=run.recipe.sampling.sampler, y=y)

    index = torch.arange(12)
    assert drawn.labels.tolist() == (index % 10).tolist()
    torch.testing.assert_close(with_labels(index % 10), drawn.pixels, rtol=1e-4, atol=1e-5)
    # All of another class; by the place in a batch of eight; by all eleven labels.
    for other in (torch.zeros(12, dtype=torch.long), index % 8, index % 11):
        wrong = other != index % 10
        changed = (with_labels(other) - drawn.pixels).flatten(1).abs().amax(1)
        assert (changed[wrong] > 1e-3).all()


def test_the_noise_of_stochastic_steps_follows_the_seed(tmp_path):
    overrides = ("sampling.seed=3", "sampling.sampler={type: ddim, steps: 3, eta: 1.0}", "training.images=64", "evaluation.metrics=[]")
    [run] = etsdm.build(TINY, *overrides, out=tmp_path).arm("baseline").runs
    list(run.run())
    denoiser, sampler = etsdm.load(tmp_path / "tiny/baseline"), run.recipe.sampling.sampler
    noise = per_sample_normal(3, "sampling/noise", range(16), denoiser.shape)

    def drawn(seed):
        *_, last = sampler.trajectory(denoiser, noise, SampleNoise(seed, "sampling/steps", range(16)))
        return last.x.clamp(-1, 1)

    torch.testing.assert_close(run.samples.load().pixels, drawn(3), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(drawn(0), drawn(3), atol=1e-2)


def test_a_recipe_that_drops_labels_can_be_guided(tmp_path):
    overrides = ("model.backbone.num_classes=11", "training.label_dropout=0.2", "training.images=640", "training.learning_rate=0.01")
    [run] = etsdm.build(TINY, *overrides, "evaluation.metrics=[]", "sampling.n=4", out=tmp_path).arm("e-tsdm").runs
    untrained = run.load_denoiser().backbone.label_emb.weight.clone()
    list(run.run())
    denoiser = etsdm.load(tmp_path / "tiny/e-tsdm")
    assert (denoiser.backbone.label_emb.weight != untrained).any(1).all()

    x, y, none = torch.randn(10, 1, 8, 8, generator=generator(0, "test/x")), torch.arange(10), torch.full((10,), 10)
    conditional, unconditional = denoiser.output(x, 500.0, y=y), denoiser.output(x, 500.0, y=none)
    assert not torch.allclose(conditional, unconditional, atol=1e-2)
    guided = ClassifierFreeGuidance(denoiser, 3.0)
    torch.testing.assert_close(guided.output(x, 500.0, y=y), 3 * conditional - 2 * unconditional, rtol=1e-4, atol=1e-4)
    drawn = {w: etsdm.sample(ClassifierFreeGuidance(denoiser, w), 10, sampler=run.recipe.sampling.sampler, y=y) for w in (0.0, 1.0, 3.0)}
    for w, alone in ((0.0, none), (1.0, y)):
        torch.testing.assert_close(drawn[w], etsdm.sample(denoiser, 10, sampler=run.recipe.sampling.sampler, y=alone), rtol=1e-4, atol=1e-4)
    assert drawn[3.0].isfinite().all()
    assert not torch.allclose(drawn[3.0], drawn[1.0], atol=1e-2)
