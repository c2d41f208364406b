"""Ancestral sampling where alpha^2 + sigma^2 is not 1."""

import pytest
import torch

from etsdm.randomness import generator
from etsdm.registry import schedules
from etsdm.samplers import DDIM, DDPM
from etsdm.targets import X0, Eps
from etsdm.theory import ExactDenoiser, GaussianMixture

SAMPLERS = [DDPM(steps=200), DDPM(steps=200, variance="posterior"), DDIM(steps=200, eta=1.0)]


class Stream:
    def __init__(self, n):
        self.n, self.generator = n, generator(0, "test/steps")

    def draw(self, shape):
        return torch.randn(self.n, *shape, generator=self.generator, dtype=torch.float64)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddpm beta", "ddpm posterior", "ddim eta 1"])
@pytest.mark.parametrize("name", ["edm", "ve", "flow", "linear-continuous"])
def test_the_spread_of_standard_normal_data_comes_back(name, sampler):
    schedule, n = schedules.create(name), 20_000
    data = GaussianMixture(means=[[0.0]], stds=[1.0], weights=[1.0])
    sampler = sampler.model_copy(update={"grid": "karras", "clip_x0": False})
    denoiser = ExactDenoiser(data, schedule, target=X0() if name == "flow" else Eps())
    x = schedule.sigma(schedule.domain[1]) * torch.randn(n, 1, generator=generator(0, "test/noise"), dtype=torch.float64)
    *_, last = sampler.trajectory(denoiser, x, Stream(n))
    # The standard error of a deviation of 1 is 1/sqrt(2 n) = 0.005; 200 steps are worth another 0.03.
    assert last.x.std().item() == pytest.approx(1, abs=0.05)
