"""`etsdm run` and its `--dry-run` say what is done again and why, how far a half-done stage is, and count what is left."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from entry_point import rows, run
from PIL import Image

import etsdm
from etsdm.cli.run_plan import plan_lines, plan_runs
from etsdm.runs import STAGES, digests

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SMALL = (
    "training.images=160",
    "training.log_every=32",
    "training.checkpoint_every=32",
    "training.lr_schedule=constant",
    "sampling.n=6",
    "sampling.batch_size=2",
    "evaluation.metrics=[{type: lipschitz, images: 2, stop: 12}, recognition]",
    "compute.jobs=1",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which the experiment is finished."""
    folder = tmp_path_factory.mktemp("whole")
    assert run("run", TINY, *SMALL, cwd=folder).returncode == 0
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def planned(folder, *changes):
    """The lines on stages that are done again or go on, as --dry-run prints them."""
    return plan_lines(plan_runs(etsdm.build(TINY, *SMALL, *changes, out=folder / "runs"), STAGES))


def carried_out(folder, *changes):
    """The same lines of `etsdm run`, all before the first progress."""
    shown = run("run", TINY, *SMALL, *changes, cwd=folder).stdout.splitlines()
    lines = [line for line in shown if " again: " in line or " goes on " in line]
    assert shown[: len(lines)] == lines
    return lines


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            ["training.learning_rate=1e-4"],
            [
                "training again: training.learning_rate 0.002 -> 0.0001",
                "sampling again: new weights",
                "lipschitz again: new weights",
                "recognition again: new samples",
            ],
        ),
        (["sampling.seed=1"], ["sampling again: sampling.seed 0 -> 1", "recognition again: new samples"]),
        (["sampling.sampler.steps=4"], ["sampling again: sampling.sampler.steps 3 -> 4", "recognition again: new samples"]),
        (["evaluation.weights=current"], ['lipschitz again: evaluation.weights "ema" -> "current"']),
        (["evaluation.seed=2"], ["lipschitz, recognition again: evaluation.seed 0 -> 2"]),
        (
            ["evaluation.metrics=[{type: lipschitz, images: 2, stop: 13}, recognition]"],
            ["lipschitz again: evaluation.metrics.lipschitz.stop 12 -> 13"],
        ),
        ([], []),
        (["compute.threads=1", "training.log_every=16", "training.keep_checkpoints=1"], []),
    ],
)
def test_a_changed_field_is_named_with_the_stages_that_it_changes(whole, changes, lines):
    before = contents(whole)
    assert planned(whole, *changes) == [f"baseline, e-tsdm: {line}" for line in lines]
    assert contents(whole) == before


def test_a_change_of_one_arm_is_named_for_that_arm(whole):
    shown = planned(whole, "arms.e-tsdm.model.condition_map.n=4")
    assert "e-tsdm: training again: model.condition_map.n 5 -> 4" in shown
    # The times at which all arms are measured follow the sub-intervals of each.
    [other] = [line for line in shown if "baseline" in line]
    assert other == "baseline: lipschitz again: evaluation.edges [0.0, 20.0, 40.0, 60.0, 80.0, 100.0] -> [0.0, 25.0, 50.0, 75.0, 100.0]"


def test_a_run_says_it_before_it_begins_and_records_it(folder):
    assert carried_out(folder, "sampling.seed=1") == [
        "baseline, e-tsdm: sampling again: sampling.seed 0 -> 1",
        "baseline, e-tsdm: recognition again: new samples",
    ]
    records = [json.loads(line) for line in (folder / "runs/tiny/e-tsdm/redone.jsonl").read_text().splitlines()]
    assert [(one["stage"], one["reasons"]) for one in records] == [
        ("sample default", ["sampling.seed 0 -> 1"]),
        ("evaluate recognition", ["new samples"]),
    ]
    assert planned(folder, "sampling.seed=1") == []


def test_results_of_another_training_that_is_there_name_its_field(folder):
    etsdm.build(TINY, *SMALL, "training.learning_rate=1e-4", out=folder / "runs").arm("baseline").run()
    assert planned(folder) == [
        "baseline: sampling again: training.learning_rate 0.0001 -> 0.002",
        "baseline: lipschitz again: training.learning_rate 0.0001 -> 0.002",
        "baseline: recognition again: new samples",
    ]


def test_damaged_results_are_named(folder):
    training = etsdm.build(TINY, *SMALL, out=folder / "runs").arm("baseline").runs[0].train.folder
    (training.checkpoint_at(160) / "weights.safetensors").write_bytes(b"")
    (folder / "runs/tiny/e-tsdm/samples/default/00000002-00000004.safetensors").write_bytes(b"")
    (folder / "runs/tiny/e-tsdm/samples/default/grid.png").unlink()
    first, second, third, fourth = planned(folder)
    assert first.startswith("baseline: training again: ")
    assert f"{training.path.name}/checkpoints/000000000160" in first
    assert second == "baseline: training goes on from 128 of 160 images"
    assert third == "e-tsdm: sampling again: 2 of 6 images are missing or damaged"
    assert fourth == "e-tsdm: sampling goes on from 4 of 6 images"


def test_other_images_are_named_by_what_they_hold(folder):
    (folder / "images").mkdir()

    def draw(seed):
        for k, image in enumerate(np.random.default_rng(seed).integers(0, 256, (12, 8, 8), dtype=np.uint8)):
            Image.fromarray(image).save(folder / f"images/{k:02d}.png")

    data = (f"data={{type: image-folder, path: {folder}/images, image_size: 8, channels: 1, held_out: 2}}", "evaluation.metrics=[]")
    draw(0)
    etsdm.build(TINY, *SMALL, *data, out=folder / "runs").arm("baseline").train()
    draw(1)
    first, *_ = planned(folder, *data)
    assert first.startswith("baseline: training again: content of data ")
    assert len(set(first.split("content of data ")[1].split(" -> "))) == 2


def test_a_result_of_another_version_of_the_computation_is_named(folder, monkeypatch):
    monkeypatch.setattr(digests, "STAGE_FORMAT", digests.STAGE_FORMAT + 1)
    first, *_ = planned(folder)
    assert first == f"baseline, e-tsdm: training again: version of etsdm's computation {digests.STAGE_FORMAT - 1} -> {digests.STAGE_FORMAT}"


def half_done(folder, *changes, kind="train", after):
    """Stops a stage of the baseline."""
    one = etsdm.build(TINY, *SMALL, *changes, out=folder / "runs").arm("baseline").runs[0]
    for progress in one.run((kind,)):
        if progress.stage == kind and progress.done >= after:
            break


def test_a_half_done_training_and_a_half_done_sampling_say_how_far_they_are(folder):
    changed = "training.learning_rate=1e-3"
    half_done(folder, changed, after=130)
    result = run("run", TINY, *SMALL, changed, "--dry-run", cwd=folder)
    table = {title: cells for title, *cells in rows(result.stdout)}
    assert table["baseline"] == ["128 of 160 images", "to do", "to do"]
    assert table["images of training"] == ["192", "320"]
    assert "baseline: training goes on from 128 of 160 images\n" in result.stdout
    assert "training again: training.learning_rate 0.002 -> 0.001\n" in result.stdout
    assert carried_out(folder, changed)[:2] == [
        "baseline, e-tsdm: training again: training.learning_rate 0.002 -> 0.001",
        "baseline: training goes on from 128 of 160 images",
    ]


def test_a_half_done_sampling_says_how_far_it_is(folder):
    half_done(folder, "sampling.seed=5", kind="sample", after=4)
    shown = run("run", TINY, *SMALL, "sampling.seed=5", "--dry-run", cwd=folder).stdout
    table = {title: cells for title, *cells in rows(shown)}
    assert table["baseline"] == ["done", "4 of 6 images", "1 of 2 to do"]
    assert table["images of sampling"] == ["8", "12"]
    assert "baseline: sampling goes on from 4 of 6 images\n" in shown


def test_a_training_stopped_before_its_first_checkpoint_still_says_why_it_is_done_again(folder):
    for rate in ("1e-3", "1e-4"):
        half_done(folder, f"training.learning_rate={rate}", after=1)
    first, *_ = planned(folder, "training.learning_rate=1e-4")
    assert first == "baseline, e-tsdm: training again: training.learning_rate 0.002 -> 0.0001"


def test_a_longer_training_goes_on_and_says_from_where(whole):
    shown = run("run", TINY, *SMALL, "training.images=320", "--dry-run", cwd=whole).stdout
    assert "baseline, e-tsdm: training goes on from 160 of 320 images: training.images 160 -> 320\n" in shown
    table = {title: cells for title, *cells in rows(shown)}
    assert table["images of training"] == ["320", "640"]


def test_the_plan_as_json_has_the_reasons_the_work_and_the_step(whole):
    found = json.loads(run("run", TINY, *SMALL, "sampling.seed=1", "--dry-run", "--json", cwd=whole).stdout)
    stages = {stage["name"]: stage for stage in found["stages"]["e-tsdm"]}
    assert stages["default"]["again"] == ["sampling.seed 0 -> 1"]
    assert (stages["default"]["done"], stages["default"]["total"]) == (0, 6)
    assert stages[""]["finished"]
    work, cost = found["work"], found["arms"]["baseline"]
    assert work["left"]["training_flops"] == 0
    assert work["left"]["sampling_flops"] == work["all"]["sampling_flops"] == 2 * cost["samplings"]["default"]["flops"]
    assert work["all"]["training_flops"] == 2 * cost["training_flops"]
    step = found["steps"]["baseline"]
    assert step["images"] == 32
    assert step["flops_per_second"] == pytest.approx(32 * 3 * cost["flops"] / step["seconds"])
