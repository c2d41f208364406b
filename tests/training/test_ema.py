import pytest
import torch
from torch import nn

from etsdm.registry import emas


@pytest.mark.parametrize("decay", [0.0, 0.75])
def test_per_step_is_the_average_of_its_formula_from_the_first_weights_on(decay):
    network = nn.Linear(1, 1, bias=False)
    average = emas.create("per-step", decay=decay).build(network)
    expected = None
    for value in (1.0, 3.0, -2.0):
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
        expected = value if expected is None else decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.module.weight.item(), expected)
    assert network.weight.item() == -2.0
