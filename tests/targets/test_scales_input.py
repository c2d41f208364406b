"""`scales_input`: false only where c_in is 1 at every noise level."""

import pytest
import torch

from etsdm.registry import targets
from etsdm.schedules import EDM, Linear
from etsdm.targets import Eps, Target

EVERY = [*(targets.create(name) for name in targets.names()), Eps(scale_input=True)]


class Halved(Target):
    """A plug-in that rescales its input and knows nothing of `scales_input`."""

    def output_weights(self, alpha, sigma):
        return torch.ones_like(alpha), torch.zeros_like(alpha)

    def c_in(self, alpha, sigma):
        return torch.full_like(alpha, 0.5)


@pytest.mark.parametrize("target", [*EVERY, Halved()], ids=repr)
def test_a_target_that_rescales_its_input_says_so(target):
    levels = [schedule.alpha_sigma(torch.linspace(0.5, 70, 9)) for schedule in (Linear(), EDM())]
    rescales = any((target.c_in(alpha, sigma) != 1).any() for alpha, sigma in levels)
    assert target.scales_input == rescales
