import math

import pytest
import torch
from torch import nn

from etsdm.registry import emas


@pytest.mark.parametrize("decay", [0.0, 0.75])
def test_per_step_is_the_average_of_its_formula_from_the_first_weights_on(decay):
    network = nn.Linear(1, 1, bias=False)
    average = emas.create("per-step", decay=decay, rampup_ratio=None).build(network)
    expected = None
    for value in (1.0, 3.0, -2.0):
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
        expected = value if expected is None else decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.module.weight.item(), expected)
    assert network.weight.item() == -2.0


@pytest.mark.parametrize(("steps", "half_life"), [(2, 0.1), (500, 25.0), (20_000, 1000.0)])
def test_the_half_life_is_a_share_of_the_steps_taken_until_the_decay_is_reached(steps, half_life):
    ema = emas.create("per-step", decay=0.9999)
    assert ema.decay_after(steps - 1) ** half_life == pytest.approx(0.5)


def test_the_decay_is_reached_where_its_half_life_is_the_share():
    ema = emas.create("per-step", decay=0.9999)
    steps = math.log(0.5) / math.log(0.9999) / 0.05  # 138,626
    assert ema.decay_after(int(steps) - 100) < 0.9999
    assert ema.decay_after(int(steps) + 100) == 0.9999


def test_the_average_of_a_short_training_is_that_of_its_last_steps():
    network = nn.Linear(1, 1, bias=False)
    average = emas.create("per-step").build(network)
    expected = None
    for step in range(1, 501):
        nn.init.constant_(network.weight, float(step))
        average.update_parameters(network)
        d = 0.5 ** (20 / step)
        expected = float(step) if expected is None else d * expected + (1 - d) * step
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert 450 < expected < 490  # decay 0.9999 from the first step on gives 13
