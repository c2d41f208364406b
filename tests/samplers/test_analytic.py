"""Draws of q(x_s | x_t) for Gaussian data: exact in any number of steps, and DDPM's posterior where the data do not spread."""

import pytest
import torch

from etsdm.registry import schedules
from etsdm.samplers import DDPM, Analytic
from etsdm.targets import X0
from etsdm.theory import ExactDenoiser, GaussianMixture

MEAN, STD = 0.7, 0.4


def denoiser(schedule, mean=MEAN, **parts):
    return ExactDenoiser(GaussianMixture([[mean]], [STD], [1.0]), schedules.create(schedule), **parts)


@pytest.fixture
def moments(one_at_a_time):
    """Mean and standard deviation of what is drawn; sampling is affine in the noises, of which one more sample has none."""

    def of(sampler, denoiser):
        size = sampler.steps + 2
        start = torch.zeros(size, 1, dtype=torch.float64)
        first = sampler.path(denoiser)[0]
        # x at the first point, as the data have it there.
        start += first.alpha * MEAN
        start[0] += (first.alpha**2 * STD**2 + first.sigma**2) ** 0.5
        *_, last = sampler.trajectory(denoiser, start, one_at_a_time(size))
        mean = last.x[-1]
        return mean.item(), (last.x[:-1] - mean).square().sum().sqrt().item()

    return of


@pytest.mark.parametrize("schedule", ["linear", "linear-continuous", "edm", "ve", "flow", "zero-terminal-snr"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_mean_and_spread_are_those_of_the_data_in_any_number_of_steps(moments, schedule, n):
    found = moments(Analytic(steps=n, std=STD), denoiser(schedule, target=X0()))
    assert found == pytest.approx((MEAN, STD), rel=1e-9)


def test_another_spread_is_not_that_of_the_data(moments):
    assert moments(Analytic(steps=3, std=0.8), denoiser("linear"))[1] > 1.2 * STD


def test_an_end_before_the_clean_image_has_the_spread_of_its_time(moments):
    sampler = Analytic(steps=4, std=STD, t_end=0.3)
    alpha, sigma = schedules.create("flow").alpha_sigma(0.3)
    expected = (alpha.item() * MEAN, torch.hypot(alpha * STD, sigma).item())
    found = moments(sampler, denoiser("flow", target=X0()))
    assert found == pytest.approx(expected, rel=1e-9)


def test_without_spread_it_is_ddpm_with_the_posterior_variance():
    one, other = Analytic(steps=7, std=0, grid="trailing"), DDPM(steps=7, variance="posterior", grid="trailing")
    start = torch.tensor([[1.0], [-0.3]], dtype=torch.float64)
    for ours, theirs in zip(one.trajectory(denoiser("linear"), start), other.trajectory(denoiser("linear"), start), strict=True):
        torch.testing.assert_close(ours.x, theirs.x, rtol=1e-12, atol=1e-12)
