"""Denoisers whose Lipschitz curves are known, and one that counts its forward passes."""

import pytest
import torch
from torch import nn

from etsdm.denoisers.denoiser import Denoiser


class NoiseOfNormalData(nn.Module):
    """eps = sigma(time) x, the exact noise prediction for data N(0, I) (paper, below Eq. 7)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, time):
        return self.schedule.sigma(time).reshape(-1, 1, 1, 1) * x


class Counting(nn.Module):
    """A network that notes the times of every forward pass, one tuple a pass."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.passes = []

    def forward(self, x, time):
        # Under forward-mode differentiation the values hide in a wrapper that has no list.
        self.passes.append(tuple(float(one) for one in time))
        return self.network(x, time)


@pytest.fixture
def normal_data(tiny_spec):
    """The exact denoiser of N(0, I) under a schedule, with any condition map."""

    def make(schedule="linear", **parts):
        # The network takes the time in the schedule's own unit.
        unit = {} if schedule == "linear" else {"time_input": {"type": "scaled", "factor": 1}}
        spec = tiny_spec(schedule=schedule, **unit, **parts)
        return Denoiser(spec, NoiseOfNormalData(spec.schedule))

    return make


@pytest.fixture
def counting():
    """A copy of a denoiser that counts: `denoiser.backbone.passes`."""
    return lambda denoiser: Denoiser(denoiser.spec, Counting(denoiser.backbone))
