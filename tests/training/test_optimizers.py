import math

import pytest
import torch
from torch import nn

from etsdm.training import learning_rate, make_optimizer
from etsdm.training.config import Training


def training(**fields):
    return Training(images=10_000, batch_size=100, learning_rate=1.0, **fields)


def test_without_warmup_or_decay_the_rate_is_constant():
    assert [learning_rate(training(), seen) for seen in (0, 5_000, 9_900)] == [1.0, 1.0, 1.0]


def test_warmup_rises_linearly_and_ends_at_the_peak():
    rates = [learning_rate(training(warmup=900), seen) for seen in (0, 400, 900)]
    assert rates == pytest.approx([0.1, 0.5, 1.0])


def test_cosine_decay_is_half_way_down_in_the_middle_and_zero_at_the_end():
    decayed = training(decay="cosine", warmup=2_000)
    assert learning_rate(decayed, 6_000) == pytest.approx(0.5)
    assert learning_rate(decayed, 4_000) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(decayed, 10_000) == pytest.approx(0.0)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_torchs_with_the_recipes_numbers(name, kind):
    optimizer = make_optimizer(nn.Linear(2, 2), training(optimizer=name, betas=(0.8, 0.95), weight_decay=0.1))
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1.0, (0.8, 0.95), 0.1)
