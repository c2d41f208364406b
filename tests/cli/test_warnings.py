"""Warnings and the loss on the terminal of `etsdm run`, also from worker processes."""

import re
from pathlib import Path

import pytest
from entry_point import run

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SHORT = ["training.images=128", "training.warmup_images=0", "training.log_every=32", "sampling.n=4", "evaluation.metrics=[]"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_warning_is_one_line_of_the_program_once_for_all_arms(tmp_path, jobs):
    # 10 timesteps of `linear` do not end in noise, which all samplers warn of, in every arm.
    noisy = ["model.schedule={type: linear, timesteps: 10}", "model.condition_map=identity", "arms={a: {}, b: {model.target: v}}"]
    result = run("run", TINY, "arms=null", *noisy, *SHORT, f"compute.jobs={jobs}", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines
    assert len(lines) == len(set(lines))
    assert all(line.startswith("warning: ") and ".py" not in line for line in lines)


def test_the_loss_is_in_the_lines_of_a_training(tmp_path):
    result = run("run", TINY, *SHORT, "--arm", "baseline", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if "train 128/128" in line)
    assert 0 < float(re.search(r"loss ([\d.]+)$", line)[1]) < 10
