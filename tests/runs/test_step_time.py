"""The time of a training step: measured on noise, bounded in time and memory, and without a trace."""

import time
from pathlib import Path

import pytest
import torch

import etsdm
from etsdm.runs import step_time
from etsdm.runs.cost import cost_of
from etsdm.runs.step_time import LONGEST_STEP_S, time_step

RECIPES = Path(__file__).parents[1] / "recipes"


def timed(name="tiny", *overrides):
    recipe = etsdm.build(RECIPES / f"{name}.yaml", *overrides, "compute.device=cpu").recipe
    return time_step(recipe, cost_of(recipe), threads=1)


@pytest.mark.parametrize("name", ["tiny", "latent", "super_resolution"])
def test_a_step_of_the_recipes_batch_is_measured(name):
    state = torch.get_rng_state()
    clock = time.perf_counter()
    step = timed(name)
    assert 0 < step.seconds < time.perf_counter() - clock
    assert (step.device, step.threads, step.images, step.reason) == ("cpu", 1, 32, None)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "override",
    [
        "model.backbone.num_classes=10",
        "training.loss=hybrid",
        "model.target=v",
        "compute.channels_last=true",
        "compute.compile=true",
        "training.optimizer=adamw",
    ],
)
def test_every_part_of_the_recipe_takes_part_in_the_step(override):
    extra = ("model.backbone.out_channels=2",) if "hybrid" in override else ()
    assert timed("tiny", override, *extra).seconds > 0


def test_a_step_that_takes_too_long_is_measured_with_fewer_images_or_not_at_all(monkeypatch):
    recipe = etsdm.build(RECIPES / "tiny.yaml").recipe
    flops = 3 * cost_of(recipe).flops
    monkeypatch.setitem(step_time.SLOWEST, "cpu", 5.5 * flops / LONGEST_STEP_S)
    assert timed().images == 5
    monkeypatch.setitem(step_time.SLOWEST, "cpu", 0.5 * flops / LONGEST_STEP_S)
    step = timed()
    assert (step.images, step.seconds, step.flops_per_second) == (0, None, None)
    assert "GFLOP for one image would take 6 s" in step.reason


def test_a_step_that_does_not_fit_memory_is_measured_with_fewer_images_or_not_at_all(monkeypatch):
    recipe = etsdm.build(RECIPES / "tiny.yaml").recipe
    cost = cost_of(recipe)
    image = 2 * cost.activations / 32
    monkeypatch.setattr(step_time, "machine_memory", lambda: int(2 * (cost.training_state + 3.5 * image)))
    assert timed().images == 3
    monkeypatch.setattr(step_time, "machine_memory", lambda: int(2 * cost.training_state))
    assert "GB for one image are more than half of the " in timed().reason


def test_weights_that_take_too_long_by_themselves_are_not_made(monkeypatch):
    monkeypatch.setitem(step_time.SLOWEST_WEIGHTS, "cpu", 100.0)
    assert "parameters would take more than 3 s" in timed().reason


def test_a_step_without_its_device_says_why():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    recipe = etsdm.build(RECIPES / "tiny.yaml", "compute.device=cuda").recipe
    assert "compute.device" in time_step(recipe, cost_of(recipe), 1).reason
