"""What the stochastic samplers of the sigma family draw, on exact scores: the data's distribution in the limit of many steps."""

import pytest
import torch
from scipy.stats import wasserstein_distance

from etsdm.randomness import generator
from etsdm.registry import samplers, schedules
from etsdm.theory import ExactDenoiser, mixture

# With the number of steps from which on the error of the mean and of the covariance is below that of 1000 samples.
STOCHASTIC = [
    ("ddpm", {"variance": "posterior", "grid": "log-snr"}, 150),
    ("euler-ancestral", {}, 150),
    ("edm-stochastic", {"churn": 20, "s_noise": 1}, 60),
    ("dpm2-ancestral", {}, 60),
    ("dpm-solver++-2s-ancestral", {}, 60),
    ("dpm-solver++-sde", {}, 150),
    ("dpm-solver++-2m-sde", {}, 60),
    ("dpm-solver++-3m-sde", {}, 60),
]
SCHEDULE = schedules.create("linear-continuous")
N = 1000
every_sampler = pytest.mark.parametrize(("name", "fields", "steps"), STOCHASTIC, ids=[name for name, *_ in STOCHASTIC])


class Noise:
    def __init__(self):
        self.generator = generator(0, "test/steps")

    def draw(self, shape):
        return torch.randn(N, *shape, generator=self.generator, dtype=torch.float64)


def drawn(data, name, steps, fields):
    start = torch.randn(N, data.dim, generator=generator(0, "test/start"), dtype=torch.float64)
    *_, last = samplers.create(name, steps=steps, **fields).trajectory(ExactDenoiser(data, SCHEDULE), start, Noise())
    return last.x


def quantiles(data, n):
    """n numbers that stand for a one-dimensional mixture, at its quantiles (i + 1/2)/n."""
    x = torch.linspace(-5, 5, 20001, dtype=torch.float64)
    cdf = (data.weights * torch.special.ndtr((x[:, None] - data.means[:, 0]) / data.stds)).sum(-1)
    return x[torch.searchsorted(cdf, (torch.arange(n, dtype=torch.float64) + 0.5) / n)]


@every_sampler
def test_mean_and_covariance_are_those_of_the_data_within_4_standard_errors(name, fields, steps):
    data = mixture("m2")
    mean = data.weights @ data.means
    spread = torch.einsum("m,mi,mj->ij", data.weights, data.means - mean, data.means - mean)
    covariance = spread + (data.weights @ data.stds**2) * torch.eye(2, dtype=torch.float64)
    gap = drawn(data, name, steps, fields) - mean
    products = torch.einsum("ni,nj->nij", gap, gap)
    assert (gap.mean(0).abs() < 4 * gap.std(0) / N**0.5).all()
    assert ((products.mean(0) - covariance).abs() < 4 * products.std(0) / N**0.5).all()


@every_sampler
def test_the_distance_to_the_data_falls_with_the_steps(name, fields, steps):
    data = mixture("m1")
    expected = quantiles(data, N)
    distances = [wasserstein_distance(drawn(data, name, n, fields)[:, 0], expected) for n in (5, 15, 60)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 5
