"""Runs side by side in processes: the same bits as one after another, and nothing lost when they are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import etsdm
from etsdm.checkpoints import checkpoint_folder
from etsdm.errors import IntegrityError
from etsdm.runs.launch import execute, jobs_for, run_in_processes

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
# Three arms: the baseline's training is that of a third one too.
SHARED = (
    "training.images=64",
    "training.warmup_images=0",
    "evaluation.metrics=[recognition]",
    "arms={other-samples: {model.condition_map: identity, sampling.n: 8}}",
)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children_of(pid):
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_side_by_side_gives_the_same_weights_as_one_after_another(tmp_path):
    apart = etsdm.build(TINY, "compute.jobs=2", out=tmp_path / "apart")
    events = list(run_in_processes(apart.runs, ("train",)))
    assert {event.label for event in events if event.finished} == {"baseline", "e-tsdm"}
    assert max(event.progress.done for event in events if event.progress) == 320
    together = etsdm.build(TINY, out=tmp_path / "together")
    together.train()
    for arm in ("baseline", "e-tsdm"):
        a, b = (checkpoint_folder(tmp_path / name / "tiny" / arm) / "weights.safetensors" for name in ("apart", "together"))
        assert a.read_bytes() == b.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_run_killed_with_signal_9_goes_on_and_ends_with_the_same_bits(tmp_path):
    long = ["training.images=960", "sampling.n=4", "compute.jobs=2"]
    command = [sys.executable, "-m", "etsdm", "run", str(TINY), *long, "--stage", "train", "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    e_tsdm = etsdm.build(TINY, *long, out=tmp_path / "killed").arm("e-tsdm").runs[0].train.folder
    # The first checkpoint may be pruned before it is seen: any later one will do.
    wait_for(e_tsdm.all_checkpoints)
    workers = children_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert workers
    wait_for(lambda: not any(alive(pid) for pid in workers))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = etsdm.build(TINY, *long, out=tmp_path / "whole")
    whole.train()
    for arm in ("baseline", "e-tsdm"):
        for file in ("weights.safetensors", "training.safetensors"):
            killed, unbroken = (checkpoint_folder(tmp_path / name / "tiny" / arm) / file for name in ("killed", "whole"))
            assert killed.read_bytes() == unbroken.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_that_dies_is_reported_with_its_signal(tmp_path):
    experiment = etsdm.build(TINY, "training.images=3200", out=tmp_path).arm("baseline")

    def watch():
        for event in run_in_processes(experiment.runs, ("train",)):
            if event.progress and event.progress.done >= 64:
                for child in children_of(os.getpid()):
                    if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                        os.kill(child, signal.SIGKILL)

    with pytest.raises(IntegrityError, match=r"baseline: its process ended with signal SIGKILL; nothing that was saved is lost"):
        watch()


def test_an_error_of_one_run_names_it_and_keeps_its_kind(tmp_path):
    experiment = etsdm.build(TINY, "training.learning_rate=1e30", out=tmp_path).arm("e-tsdm")
    with pytest.raises(IntegrityError, match=r"^e-tsdm: training: "):
        list(run_in_processes(experiment.runs, ("train",)))
    with pytest.raises(IntegrityError, match=r"^e-tsdm: training: "):
        list(execute(experiment.runs, ("train",)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_ctrl_c_and_sigterm_end_the_workers_and_the_same_command_goes_on(tmp_path, number, code, word):
    long = ["training.images=32000", "compute.jobs=2", "training.checkpoint_every=64"]
    command = [sys.executable, "-m", "etsdm", "run", str(TINY), *long, "--stage", "train", "--out", str(tmp_path)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # A shell that starts tests in the background has them ignore SIGINT, and their children with them.
    process = subprocess.Popen(command, **pipes, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    runs = etsdm.build(TINY, *long, out=tmp_path).runs
    wait_for(lambda: all(run.train.folder.latest_checkpoint() for run in runs))
    workers = children_of(process.pid)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, shown = process.communicate(timeout=60)
    assert (process.returncode, shown) == (code, f"{word}; run the same command again to go on\n")
    assert workers
    wait_for(lambda: not any(alive(pid) for pid in workers), seconds=20)
    seen = next(progress.done for progress in runs[0].run(("train",)))
    assert 0 < seen < 32000


@pytest.mark.parametrize("jobs", [1, 2])
def test_arms_that_share_a_training_train_it_once(tmp_path, jobs):
    experiment = etsdm.build(TINY, *SHARED, out=tmp_path)
    events = list(experiment.execute(jobs=jobs))
    trained = {event.label for event in events if event.progress and event.progress.stage == "train" and not event.progress.reused}
    assert trained == {"baseline", "e-tsdm"}
    assert {event.label for event in events if event.finished} == {"baseline", "other-samples", "e-tsdm"}
    assert len(experiment.folder.trainings()) == 2
    loaded = [checkpoint_folder(tmp_path / "tiny" / arm) for arm in ("baseline", "other-samples", "e-tsdm")]
    assert loaded[0] == loaded[1] != loaded[2]


def test_jobs_are_what_the_recipe_says_and_no_more_than_runs():
    runs = etsdm.build(TINY, "compute.jobs=8", "compute.device=cpu").runs
    assert jobs_for(runs) == 2
    assert jobs_for(etsdm.build(TINY, "compute.jobs=1").runs) == 1
