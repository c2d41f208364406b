import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.registry import optimizers


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_it_is_torchs_with_the_fields_of_the_part(name, kind):
    part = optimizers.create(name, betas=(0.8, 0.95), weight_decay=0.1)
    optimizer = part.build(nn.Linear(2, 2).parameters(), 0.5)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"], group["fused"]) == (0.5, (0.8, 0.95), 0.1, True)


@pytest.mark.parametrize(("name", "expected"), [("adam", 0.9), ("adamw", 0.85)])
def test_weight_decay_is_a_penalty_of_adam_and_a_shrinking_of_adamw(name, expected):
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = optimizers.create(name, weight_decay=0.5).build([weight], 0.1)
    # adam: gradient 0.5 * weight, and a first step of lr * sign; adamw with a gradient of 1: shrunk by lr * 0.5, then the same step.
    weight.grad = torch.tensor([0.0 if name == "adam" else 1.0])
    optimizer.step()
    assert weight.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fields", [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"weight_decay": -1}], ids=str)
def test_numbers_out_of_range_are_refused(fields):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        optimizers["adam"](**fields)
