"""`etsdm sample` as a person uses it: a folder of images, kills, several processes, and refused options."""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from entry_point import run
from PIL import Image

import etsdm
from etsdm.checkpoints.format import write_denoiser
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.samplers import DDIM
from etsdm.sampling import SampledModel
from etsdm.storage.files import atomic_folder


@pytest.fixture(scope="module")
def denoiser(tiny_denoiser):
    return tiny_denoiser(target="v", condition_map="e-tsdm")


@pytest.fixture(scope="module")
def checkpoint(denoiser, tmp_path_factory):
    """A checkpoint that was trained with E-TSDM, without a run beside it."""
    return written(denoiser, tmp_path_factory.mktemp("alone"))


def written(denoiser, place):
    with atomic_folder(place / "checkpoint") as folder:
        write_denoiser(folder, denoiser, denoiser.backbone.state_dict(), recipe="r" * 64)
    return place / "checkpoint"


def contents(folder):
    """The content of every image, by name."""
    return {file.name: file.read_bytes() for file in sorted((folder / "images").iterdir())}


def pixels(folder, n):
    return np.stack([np.asarray(Image.open(folder / "images" / f"{k:06d}.png")) for k in range(n)])


FIVE = ("-n", 5, "--batch-size", 2, "--steps", 3)


@pytest.fixture(scope="module")
def five(checkpoint, tmp_path_factory):
    """A folder of five images."""
    out = tmp_path_factory.mktemp("five") / "samples"
    result = run("sample", checkpoint, *FIVE, "--out", out)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{out}/images\n{out}/grid.png\n"
    return out


def test_the_images_are_those_of_sample(five, denoiser):
    expected = etsdm.sample(denoiser, 5, sampler=DDIM(steps=3), batch_size=2)
    assert np.array_equal(pixels(five, 5), ((expected[:, 0] + 1) * 127.5).round().byte().numpy())
    assert sorted(contents(five)) == [f"{k:06d}.png" for k in range(5)]


def test_every_file_has_its_protocol_and_e_tsdm_needs_no_flag(five, denoiser):
    for k in range(5):
        text = Image.open(five / "images" / f"{k:06d}.png").text
        assert (text["seed"], text["index"], text["recipe"]) == ("0", str(k), "r" * 64)
        protocol = json.loads(text["protocol"])
        assert protocol["denoiser"] == denoiser.spec.model_dump(mode="json")
        assert protocol["denoiser"]["condition_map"]["type"] == "e-tsdm"
        assert protocol["sampler"]["steps"] == 3
        assert "trained_with_condition_map" not in protocol
        assert len(protocol["weights"]) == 64


def test_the_same_command_again_draws_nothing_and_touches_no_image(checkpoint, five):
    before = {file: file.stat().st_mtime_ns for file in (five / "images").iterdir()}
    result = run("sample", checkpoint, *FIVE, "--out", five)
    assert result.stdout.startswith(f"{five}: every image is there already\n")
    assert {file: file.stat().st_mtime_ns for file in (five / "images").iterdir()} == before


def test_lost_images_are_generated_again_to_the_same_bytes(checkpoint, five, tmp_path):
    before = contents(five)
    for k in (1, 4):
        (five / "images" / f"{k:06d}.png").unlink()
    facts = json.loads(run("sample", checkpoint, *FIVE, "--out", five, "--json").stdout)
    assert (facts["generated"], facts["images"], facts["nfe"]) == (2, 5, 3)
    assert contents(five) == before


def test_another_protocol_in_the_same_folder_is_refused_and_nothing_changes(checkpoint, five):
    before = contents(five)
    for option, message in [
        (("--seed", 1), "seed (0 -> 1)"),
        (("--sampler", "ddpm"), "sampler (ddim -> ddpm)"),
        (("--condition-map", "identity"), "denoiser.condition_map (e-tsdm -> identity), trained_with_condition_map (null -> e-tsdm)"),
    ]:
        result = run("sample", checkpoint, *FIVE, *option, "--out", five)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f"error: {five}: holds images that differ in {message}; give another folder, or remove this one\n"
    assert contents(five) == before


def test_another_map_is_sampled_with_when_it_is_asked_for_and_the_protocol_says_so(checkpoint, tmp_path, tiny_spec, denoiser):
    result = run("sample", checkpoint, *FIVE, "--condition-map", "{type: e-tsdm, n: 50}", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    protocol = json.loads((tmp_path / "job.json").read_text())["protocol"]
    assert protocol["denoiser"]["condition_map"]["n"] == 50
    assert protocol["trained_with_condition_map"]["n"] == 5


def process(*arguments, **environment):
    """Starts the command in a process of its own."""

    def work():
        os.environ.update(environment)
        sys.exit(run(*arguments).returncode)

    # Forked: this process has torch already, with one thread.
    started = multiprocessing.get_context("fork").Process(target=work)
    started.start()
    return started


def test_two_processes_share_the_images_and_draw_those_of_one(checkpoint, five, tmp_path):
    ranks = [process("sample", checkpoint, *FIVE, "--npz", "--out", tmp_path, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    assert contents(tmp_path) == contents(five)
    assert (tmp_path / "grid.png").read_bytes() == (five / "grid.png").read_bytes()
    with np.load(tmp_path / "samples.npz") as archive:
        assert np.array_equal(archive["arr_0"][..., 0], pixels(five, 5))


def test_a_rank_draws_its_share_and_the_last_one_the_grid(checkpoint, five, tmp_path):
    second = run("sample", checkpoint, *FIVE, "--rank", 1, "--world", 2, "--out", tmp_path)
    assert second.stdout == f"{tmp_path}: rank 1 of 2 is done; the last one writes the grid\n"
    assert sorted(contents(tmp_path)) == ["000002.png", "000003.png"]
    assert not (tmp_path / "grid.png").exists()
    run("sample", checkpoint, *FIVE, "--rank", 0, "--world", 2, "--out", tmp_path)
    assert contents(tmp_path) == contents(five)
    assert (tmp_path / "grid.png").exists()


def test_a_killed_job_goes_on_to_the_same_bytes(checkpoint, tmp_path):
    job = ("sample", checkpoint, "-n", 24, "--batch-size", 2, "--steps", 20)
    killed = process(*job, "--out", tmp_path / "killed")
    while not (tmp_path / "killed/images/000003.png").exists():
        assert killed.is_alive()
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    there = {name: content for name, content in contents(tmp_path / "killed").items() if not name.startswith(".")}
    assert 4 <= len(there) < 24
    facts = json.loads(run(*job, "--out", tmp_path / "killed", "--json").stdout)
    assert facts["generated"] == 24 - len(there)
    run(*job, "--out", tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_more_images_go_into_the_same_folder_and_fewer_do_not(checkpoint, five, tmp_path):
    run("sample", checkpoint, "-n", 2, "--steps", 3, "--batch-size", 2, "--out", tmp_path)
    assert json.loads(run("sample", checkpoint, *FIVE, "--out", tmp_path, "--json").stdout)["generated"] == 3
    assert contents(tmp_path) == contents(five)
    refused = run("sample", checkpoint, "-n", 2, "--steps", 3, "--out", tmp_path)
    assert refused.stderr == f"error: {tmp_path}: holds image 4, beyond the 2 requested; give 5 or more, or another folder\n"


@pytest.mark.parametrize("format", ["gif", "webp"])
def test_an_animation_shows_every_step_and_ends_in_the_images(checkpoint, five, tmp_path, format):
    result = run("sample", checkpoint, *FIVE, "--animate", format, "--out", tmp_path)
    assert result.stdout.splitlines()[-1] == f"{tmp_path}/trajectory.{format}"
    picture = Image.open(tmp_path / f"trajectory.{format}")
    assert picture.size == (4 * 34 + 2, 2 * 34 + 2)
    # Three predictions, then the images: the last prediction is the images already, so GIF may join the two.
    assert picture.n_frames in (3, 4)
    picture.seek(picture.n_frames - 1)
    corner = np.asarray(picture.convert("L"), dtype=int)[2:34:4, 2:34:4]
    assert np.abs(corner - pixels(five, 1)[0]).max() <= 2


def test_classes_are_used_in_turn_unless_named(tiny_denoiser, tmp_path):
    denoiser = tiny_denoiser(target="v", backbone={"num_classes": 3})
    folder = written(denoiser, tmp_path)
    for option, labels in [
        ((), [0, 1, 2, 0, 1]),
        (("--labels", "2"), [2] * 5),
        (("--labels", "2,0"), [2, 0, 2, 0, 2]),
        (("--labels", "1:3"), [1, 2, 1, 2, 1]),
    ]:
        out = tmp_path / "-".join(["out", *option])
        assert run("sample", folder, *FIVE, *option, "--npz", "--out", out).returncode == 0
        assert [Image.open(out / "images" / f"{k:06d}.png").text["label"] for k in range(5)] == [str(label) for label in labels]
        expected = etsdm.sample(denoiser, 5, sampler=DDIM(steps=3), batch_size=2, y=torch.tensor(labels))
        with np.load(out / "samples.npz") as archive:
            assert archive["arr_1"].tolist() == labels
            assert np.array_equal(archive["arr_0"][..., 0], ((expected[:, 0] + 1) * 127.5).round().byte().numpy())


def test_guidance_is_that_of_its_scale_and_in_the_protocol(tiny_denoiser, tmp_path):
    denoiser = tiny_denoiser(target="v", backbone={"num_classes": 3})
    folder = written(denoiser, tmp_path)
    for options, guided in [
        (("--guidance", 2.5), ClassifierFreeGuidance(denoiser, 2.5)),
        (("--guidance", 2.5, "--guidance-interval", "0.3:5"), ClassifierFreeGuidance(denoiser, 2.5, (0.3, 5.0))),
    ]:
        out = tmp_path / "-".join(map(str, ("out", *options)))
        result = run("sample", folder, *FIVE, *options, "--out", out)
        assert result.returncode == 0, result.stderr
        expected = etsdm.sample(guided, 5, sampler=DDIM(steps=3), batch_size=2, y=torch.tensor([0, 1, 0, 1, 0]))
        assert np.array_equal(pixels(out, 5), ((expected[:, 0] + 1) * 127.5).round().byte().numpy())
        interval = None if guided.interval is None else list(guided.interval)
        assert json.loads((out / "job.json").read_text())["protocol"]["guidance"] == {"scale": 2.5, "interval": interval}


def test_a_run_that_dropped_labels_is_guided_and_another_is_refused(tmp_path):
    tiny = Path(__file__).parents[1] / "recipes/tiny.yaml"
    for name, labels in (
        ("with", ("model.backbone.num_classes=11", "training.label_dropout=0.5")),
        ("without", ("model.backbone.num_classes=10",)),
    ):
        experiment = etsdm.build(tiny, *labels, f"name={name}", "training.images=64", "evaluation.metrics=[]", out=tmp_path)
        experiment.arm("baseline").train()
    options = ("--guidance", 2, "-n", 12, "--steps", 2)
    result = run("sample", tmp_path / "with/baseline", *options, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    # The ten classes in turn, and not the label of no class.
    assert [Image.open(tmp_path / f"out/images/{k:06d}.png").text["label"] for k in range(12)] == [str(k % 10) for k in range(12)]
    result = run("sample", tmp_path / "without/baseline", *options, "--out", tmp_path / "none")
    message = "its 10 labels are the classes of its data, without a null class; train with num_classes 11 and a label_dropout"
    assert (result.returncode, result.stderr) == (2, f"error: --guidance: {message}\n")


@pytest.fixture(scope="module")
def guided_run(tmp_path_factory):
    """The folder of an arm whose recipe draws two sets of samples of a model with a null class."""
    tiny, out = Path(__file__).parents[1] / "recipes/tiny.yaml", tmp_path_factory.mktemp("guided")
    labels = ("model.backbone.num_classes=11", "training.label_dropout=0.5")
    sections = (
        "sampling={plain: {sampler: ddpm}, strong: {sampler: {type: heun, steps: 3}, weights: current, "
        "labels: [2, 5], guidance: 3, guidance_interval: [0.1, 9]}}"
    )
    experiment = etsdm.build(tiny, *labels, sections, "training.images=64", "evaluation.metrics=[]", out=out)
    experiment.arm("baseline").train()
    return out / experiment.recipe.name / "baseline"


@pytest.mark.parametrize(
    ("options", "sampler", "labels", "guidance", "weights"),
    [
        ((), "ddpm", list(range(10)), None, "ema"),
        (("--sampling", "strong"), "heun", [2, 5], {"scale": 3.0, "interval": [0.1, 9.0]}, "current"),
        (("--sampling", "strong", "--guidance", 2), "heun", [2, 5], {"scale": 2.0, "interval": [0.1, 9.0]}, "current"),
        (("--sampling", "strong", "--guidance-interval", "1:2"), "heun", [2, 5], {"scale": 3.0, "interval": [1.0, 2.0]}, "current"),
        (("--sampling", "strong", "--weights", "ema", "--labels", 7, "--sampler", "ddim"), "ddim", [7], {"scale": 3.0}, "ema"),
    ],
)
def test_sampler_weights_labels_and_guidance_are_by_default_those_of_the_recipe(
    guided_run, tmp_path, options, sampler, labels, guidance, weights
):
    result = run("sample", guided_run, "-n", 2, "--steps", 2, *options, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    protocol = json.loads((tmp_path / "job.json").read_text())["protocol"]
    assert (protocol["sampler"]["type"], protocol["labels"]) == (sampler, labels)
    assert (guidance or {}).items() <= (protocol.get("guidance") or {}).items()
    assert (guidance is None) == ("guidance" not in protocol)
    assert protocol["weights"] == SampledModel.from_checkpoint(guided_run, weights=weights).facts["weights"]


def test_an_unknown_section_of_the_recipe_is_refused_with_those_there_are(guided_run, checkpoint, tmp_path):
    for folder, message in [
        (guided_run, "(--)?sampling: unknown name 'weak'; it has:? plain, strong"),
        (checkpoint, f"--sampling: {checkpoint} belongs to no run, .*leave it out"),
    ]:
        result = run("sample", folder, "--sampling", "weak", "--out", tmp_path / "out")
        assert result.returncode == 2
        assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--guidance-interval", "0:1"), r"--guidance-interval: there is no guidance; give --guidance"),
        (("--guidance", "2"), r"--guidance: (denoiser: )?has no classes; give one with a null class beside its classes"),
        (("--guidance", "2", "--guidance-interval", "x"), r"--guidance-interval: 'x' is no interval; give two numbers, as 0\.28:2\.9"),
    ],
)
def test_guidance_that_cannot_be_is_refused(checkpoint, tmp_path, options, message):
    result = run("sample", checkpoint, *options, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr


def test_small_images_are_enlarged_in_turn(tiny_denoiser, tmp_path):
    denoiser = tiny_denoiser(target="v", super_resolution={"factor": 2}, backbone={"in_channels": 2})
    folder = written(denoiser, tmp_path)
    (tmp_path / "small").mkdir()
    small = torch.arange(32).reshape(2, 1, 4, 4).byte() * 7
    for name, image in zip("ab", small, strict=True):
        Image.fromarray(image[0].numpy()).save(tmp_path / "small" / f"{name}.png")
    (tmp_path / "empty").mkdir()
    result = run("sample", folder, *FIVE, "--low-res", tmp_path / "small", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    low_res = (small / 127.5 - 1)[[0, 1, 0, 1, 0]]
    expected = etsdm.sample(denoiser, 5, sampler=DDIM(steps=3), batch_size=2, low_res=low_res)
    assert np.array_equal(pixels(tmp_path / "out", 5), ((expected[:, 0] + 1) * 127.5).round().byte().numpy())
    for option, message in [
        ((), "--low-res: this denoiser does super-resolution; give low-resolution images"),
        (
            ("--low-res", tmp_path / "out/grid.png"),
            f"--low-res: {tmp_path / 'out/grid.png'}: is 172x36 pixels, expected 4x4; give an image of that size",
        ),
        (
            ("--low-res", tmp_path / "empty"),
            f"--low-res: {tmp_path / 'empty'} holds no images (png, jpg, jpeg, webp); give a folder of them, or one file",
        ),
    ]:
        refused = run("sample", folder, *FIVE, *option, "--out", tmp_path / "none")
        assert (refused.returncode, refused.stderr) == (2, f"error: {message}\n")
    assert not (tmp_path / "none").exists()


def test_small_images_are_read_as_training_images_are(tiny_denoiser, tmp_path):
    folder = written(tiny_denoiser(super_resolution={"factor": 2}, backbone={"in_channels": 2}), tmp_path)
    small = tmp_path / "small"
    (small / "below").mkdir(parents=True)
    # One in a sub-folder counts; what is hidden or no image does not.
    for name, grey in (("b.png", 10), ("below/a.png", 20), (".hidden.png", 30)):
        Image.new("L", (4, 4), grey).save(small / name)
    (small / "notes.txt").write_text("no image")
    plan = ("sample", folder, "-n", 1, "--steps", 2)
    assert run(*plan, "--low-res", small, "--out", tmp_path / "out").returncode == 0
    low_res = json.loads((tmp_path / "out/job.json").read_text())["protocol"]["low_res"]
    expected = (torch.tensor([10, 20]) / 127.5 - 1).reshape(2, 1, 1, 1).expand(2, 1, 4, 4).contiguous()
    assert low_res == hashlib.sha256(expected.numpy().tobytes()).hexdigest()
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    Image.new("LA", (4, 4), (5, 128)).save(tmp_path / "clear.png")
    for file, found in [
        (tmp_path / "deep.png", "has more than 8 bits a channel; save it with 8"),
        (tmp_path / "clear.png", "is transparent in places, so its colours there are undefined; save it on a background"),
        (small / "notes.txt", "is not a PNG, JPEG or WebP image"),
        (tmp_path / "gone.png", "cannot be read (No such file or directory); "),
    ]:
        refused = run(*plan, "--low-res", file, "--out", tmp_path / "none")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"error: --low-res: {file}: {found}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sampler", "dim"), "--sampler: unknown sampler 'dim'; did you mean 'ddim'?"),
        (("--sampler", "{type: ddim, eta: 2}"), "--sampler.eta: found 2; give 1 or less"),
        (
            ("--condition-map", "{type: e-tsdm, t_tilde: 5000}"),
            "--condition-map.t_tilde: 5000 is beyond the schedule's horizon; give 1000 or less",
        ),
        (("--condition-map", "e-tsm"), "--condition-map: unknown condition map 'e-tsm'; did you mean 'e-tsdm'?"),
        (("--labels", "3"), "--labels: this denoiser is unconditional; leave them out"),
        (("--low-res", "x.png"), "--low-res: this denoiser does no super-resolution; leave it out"),
        (("--animate", "gf"), "--animate: 'gf' is no format; did you mean 'gif'?"),
        (("--rank", "2", "--world", "2"), "--rank: 2 is no rank among 2 processes; give 0 to 1"),
        (("--chunk", "2"), "--chunk: this denoiser has no first stage that decodes; leave it out"),
    ],
)
def test_a_wrong_option_is_one_line_and_leaves_nothing(checkpoint, tmp_path, options, message):
    result = run("sample", checkpoint, *options, "--out", tmp_path / "out")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", "2000"), r"--(sampler: )?steps: 2000 steps do not fit a schedule of 1000 timesteps; give 1 to 1000\n"),
        (("--sampler", "{type: ddim, t_end: 5}"), r"--sampler(: |\.)t_end: grid 'auto' ends in the clean image, not at 5; .*linspace\n"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused(checkpoint, tmp_path, options, message):
    result = run("sample", checkpoint, *options, "--out", tmp_path / "out")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(f"error: {message}", result.stderr), result.stderr
    assert not (tmp_path / "out").exists()


def test_a_rank_without_images_is_reported(checkpoint, tmp_path):
    alone = run("sample", checkpoint, *FIVE, "--rank", 3, "--world", 4, "--out", tmp_path)
    expected = (
        f"{tmp_path}: 5 images in batches of 2 leave none for rank 3 of 4\n{tmp_path}: rank 3 of 4 is done; the last one writes the grid\n"
    )
    assert (alone.returncode, alone.stdout) == (0, expected)
    for _ in range(2):
        share = run("sample", checkpoint, *FIVE, "--rank", 2, "--world", 4, "--out", tmp_path)
    assert share.stdout.startswith(f"{tmp_path}: every image of this share is there already\n")


@pytest.mark.parametrize("scale", ["nan", "inf"])
def test_a_scale_of_guidance_that_is_no_number_is_refused(tiny_denoiser, tmp_path, scale):
    folder = written(tiny_denoiser(backbone={"num_classes": 3}), tmp_path)
    result = run("sample", folder, "--guidance", scale, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert re.fullmatch(f"error: --guidance: found {scale}; give a .*number.*\n", result.stderr), result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' are no labels; give 3, 0,1,2 or 0:10"),
        ("0,3", "3 is no class of this denoiser; give 0 to 2"),
        ("2:2", "'2:2' are no labels; give 3, 0,1,2 or 0:10"),
    ],
)
def test_labels_that_are_none_are_refused(tiny_denoiser, tmp_path, text, message):
    folder = written(tiny_denoiser(backbone={"num_classes": 3}), tmp_path)
    result = run("sample", folder, "--labels", text, "--out", tmp_path / "out")
    assert (result.returncode, result.stderr) == (2, f"error: --labels: {message}\n")


def test_an_output_that_is_a_file_is_refused(checkpoint, tmp_path):
    (tmp_path / "samples.png").write_bytes(b"mine")
    result = run("sample", checkpoint, "--steps", 1, "--out", tmp_path / "samples.png")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path}/samples.png: is a file where a folder is needed; give a folder;")
    assert (tmp_path / "samples.png").read_bytes() == b"mine"
