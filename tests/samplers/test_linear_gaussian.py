"""DDPM and DDIM on data N(0, c^2), whose exact denoiser is linear, so that the variance of what they draw is exact as well.

A linear sampler's output is a weighted sum of the starting noise and the noise of each step. A batch in which every sample
is given one of these as 1 and all others as 0 yields the weights, whose squares add up to the output's variance. Nothing is
random. Expected numbers: a recursion of the variance in float64, independent of this code, for the linear schedule.
"""

import pytest
import torch
from doubles import ThirdParty

from etsdm.samplers import DDIM, DDPM
from etsdm.schedules import Linear

SCHEDULE = Linear()


def gaussian(c, n=None):
    """The best noise prediction for data N(0, c^2), eps = sigma x / (alpha^2 c^2 + sigma^2).

    With n conditions below timestep 100 it is the mean of that over each sub-interval, the optimum of a network that has one
    condition for all timesteps of each.
    """
    alpha, sigma = SCHEDULE.alpha_sigma(torch.arange(1000))
    slope = sigma / (alpha**2 * c**2 + sigma**2)
    if n is not None:
        slope[:100] = slope[:100].reshape(n, -1).mean(1).repeat_interleave(100 // n)
    return ThirdParty(SCHEDULE, lambda x, t: slope[int(t)] * x)


@pytest.fixture
def relative_spread(one_at_a_time):
    """Standard deviation of the samples over that of the data."""

    def of(sampler, denoiser, c):
        size = 1 + len(sampler.times(denoiser))
        start = torch.zeros(size, 1, dtype=torch.float64)
        start[0] = 1
        *_, last = sampler.trajectory(denoiser, start, one_at_a_time(size))
        return last.x.square().sum().sqrt().item() / c

    return of


@pytest.mark.parametrize(
    ("c", "baseline", "shared"), [(1, 0.9999, 0.9997), (0.5, 1.0015, 1.0), (0.1, 1.0077, 0.9787), (0.02, 0.9714, 1.1365)]
)
def test_ddpm_spreads_the_samples_as_the_recursion_says(relative_spread, c, baseline, shared):
    sampler = DDPM(clip_x0=False)
    assert relative_spread(sampler, gaussian(c), c) == pytest.approx(baseline, abs=6e-5)
    assert relative_spread(sampler, gaussian(c, n=5), c) == pytest.approx(shared, abs=6e-5)


@pytest.mark.parametrize(("n", "expected"), [(1, 2.3964), (50, 0.9633)])
def test_sharing_more_or_fewer_conditions_changes_the_spread(relative_spread, n, expected):
    assert relative_spread(DDPM(clip_x0=False), gaussian(0.02, n), 0.02) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("n", "expected"), [(None, 0.9449), (5, 0.9224)])
def test_ddim_in_fifty_steps_spreads_the_samples_as_the_recursion_says(relative_spread, n, expected):
    assert relative_spread(DDIM(steps=50, clip_x0=False), gaussian(0.5, n), 0.5) == pytest.approx(expected, abs=6e-5)


def test_ddpm_with_posterior_variance_is_ddim_with_all_its_noise(relative_spread):
    one, other = DDPM(variance="posterior", steps=50, grid="leading", clip_x0=False), DDIM(steps=50, eta=1, clip_x0=False)
    assert relative_spread(one, gaussian(0.5), 0.5) == pytest.approx(relative_spread(other, gaussian(0.5), 0.5), rel=1e-12)
