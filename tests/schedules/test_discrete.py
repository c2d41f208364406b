"""Laws of every discrete schedule."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.schedules import Cosine, Discrete, Linear, Quadratic

SCHEDULES = [
    Linear(),
    Quadratic(),
    Quadratic(beta_start=0.0015, beta_end=0.0195),
    Cosine(),
    Linear(timesteps=10),
    Linear(timesteps=2),
    Cosine(timesteps=2),
    Linear(beta_start=1e-12, beta_end=1e-3),
]
schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
FRACTIONS = st.floats(0, 1)


class ZeroTerminal(Discrete):
    """A schedule that ends without signal."""

    timesteps: int = 4

    @property
    def betas(self):
        return torch.tensor([0.1, 0.2, 0.5, 1.0], dtype=torch.float64)


def indices(schedule):
    return torch.arange(schedule.timesteps)


def exact_sigma(betas):
    """sqrt(1 - prod(1 - beta)) with 50 digits."""
    with mpmath.workdps(50):
        signal, sigma = mpmath.mpf(1), []
        for beta in betas.tolist():
            signal *= 1 - mpmath.mpf(beta)
            sigma.append(float(mpmath.sqrt(1 - signal)))
    return torch.tensor(sigma, dtype=torch.float64)


@schedule
def test_alpha_and_sigma_preserve_variance(schedule):
    t = torch.linspace(0, schedule.timesteps - 1, 301, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    assert torch.equal(schedule.alpha(t), alpha)
    assert torch.equal(schedule.sigma(t), sigma)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-15)
    torch.testing.assert_close(schedule.alpha_bar(t), alpha**2, rtol=1e-14, atol=0)
    torch.testing.assert_close(schedule.snr(t), alpha**2 / sigma**2, rtol=1e-13, atol=0)
    torch.testing.assert_close(schedule.log_snr(t), 2 * (alpha.log() - sigma.log()), rtol=0, atol=1e-13)


@schedule
def test_sigma_keeps_its_digits_near_zero(schedule):
    # Real arithmetic from the same betas, by mpmath.
    torch.testing.assert_close(schedule.sigma(indices(schedule)), exact_sigma(schedule.betas), rtol=1e-14, atol=0)


@schedule
def test_alpha_bar_is_the_product_of_one_minus_beta(schedule):
    torch.testing.assert_close(schedule.alpha_bar(indices(schedule)), (1 - schedule.betas).cumprod(0), rtol=1e-12, atol=0)


@schedule
def test_log_snr_decreases_strictly(schedule):
    t = torch.linspace(0, schedule.timesteps - 1, 5 * schedule.timesteps, dtype=torch.float64)
    assert (schedule.log_snr(t).diff() < 0).all()


@schedule
@given(fraction=FRACTIONS, w=FRACTIONS)
def test_log_snr_is_interpolated_between_indices(schedule, fraction, w):
    i = min(int(fraction * schedule.timesteps), schedule.timesteps - 2)
    left, right = schedule.log_snr(i), schedule.log_snr(i + 1)
    found = schedule.log_snr(torch.tensor(i + w, dtype=torch.float64))
    torch.testing.assert_close(found, (1 - w) * left + w * right, rtol=0, atol=1e-11)


@schedule
@given(fraction=FRACTIONS)
def test_the_time_of_a_log_snr_is_the_inverse(schedule, fraction):
    t = torch.tensor(fraction * (schedule.timesteps - 1), dtype=torch.float64)
    torch.testing.assert_close(schedule.t_of_log_snr(schedule.log_snr(t)), t, rtol=0, atol=1e-10)


@schedule
def test_a_log_snr_beyond_the_ends_gives_the_ends(schedule):
    assert schedule.t_of_log_snr(1e3) == 0
    assert schedule.t_of_log_snr(-1e3) == schedule.timesteps - 1
    assert schedule.t_of_log_snr(math.inf) == 0
    assert schedule.t_of_log_snr(-math.inf) == schedule.timesteps - 1


@pytest.mark.parametrize("method", ["alpha", "sigma", "alpha_bar", "log_snr", "snr", "t_of_log_snr"])
@pytest.mark.parametrize(
    "t", [3, 3.0, torch.tensor(3), torch.tensor(3, dtype=torch.float16), torch.tensor([3], dtype=torch.int32)], ids=repr
)
def test_values_are_float64_whatever_comes_in(method, t):
    found = getattr(Linear(), method)(t)
    assert found.dtype == torch.float64
    assert found.flatten() == getattr(Linear(), method)(torch.tensor(3.0, dtype=torch.float64))


@pytest.mark.parametrize("method", ["alpha", "sigma", "alpha_bar", "log_snr", "snr", "t_of_log_snr"])
def test_a_python_number_keeps_its_digits(method):
    found = getattr(Linear(), method)(5.1)
    assert found == getattr(Linear(), method)(torch.tensor(5.1, dtype=torch.float64))


@pytest.mark.parametrize("method", ["alpha", "sigma", "alpha_bar", "log_snr", "snr", "t_of_log_snr"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 1, 1, 1)])
def test_values_have_the_shape_of_the_times(method, shape):
    assert getattr(Linear(), method)(torch.ones(shape)).shape == shape


@pytest.mark.parametrize(
    ("t", "value"),
    [
        (-0.5, "-0.5"),
        (999.5, "999.5"),
        (1000, "1000"),
        (math.nan, "nan"),
        (torch.tensor([5.0, 2000.0, 7.0]), "2000"),
        (torch.tensor(999.0001, dtype=torch.float64), "999.0001"),
    ],
)
@pytest.mark.parametrize("method", ["alpha", "sigma", "alpha_bar", "log_snr", "snr"])
def test_a_time_outside_is_refused_with_its_value_and_the_interval(method, t, value):
    with pytest.raises(ValueError, match=rf"^t: {value} is outside the times of schedule 'linear'; give t in \[0, 999\]$"):
        getattr(Linear(), method)(t)


@schedule
def test_the_horizon_is_the_number_of_timesteps(schedule):
    assert schedule.is_discrete
    assert schedule.horizon == schedule.timesteps
    assert schedule.domain == (0, schedule.timesteps - 1)


@pytest.mark.parametrize("schedule", [Linear(timesteps=1), Quadratic(timesteps=1), Cosine(timesteps=1)], ids=str)
def test_one_timestep_is_a_schedule(schedule):
    (beta,) = schedule.betas.tolist()
    assert schedule.domain == (0, 0)
    assert schedule.alpha_bar(0).item() == pytest.approx(1 - beta, rel=1e-12)
    assert schedule.t_of_log_snr(schedule.log_snr(0)) == 0
    with pytest.raises(ValueError, match=r"give t in \[0, 0\]"):
        schedule.alpha(0.5)


def test_two_timesteps_are_the_two_betas():
    two = Linear(timesteps=2, beta_start=0.1, beta_end=0.5)
    # (1 - 0.1) and (1 - 0.1)(1 - 0.5).
    torch.testing.assert_close(two.alpha_bar(torch.tensor([0, 1])), torch.tensor([0.9, 0.45], dtype=torch.float64))


def test_a_schedule_may_end_without_signal():
    last = ZeroTerminal()
    assert last.alpha(3) == 0
    assert last.sigma(3) == 1
    assert last.alpha(torch.tensor([2.0, 3.0])).isfinite().all()
    t = torch.tensor([0.0, 1.25, 2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(last.t_of_log_snr(last.log_snr(t)), t)


def test_no_timesteps_are_refused():
    with pytest.raises(ValueError, match="timesteps"):
        Linear(timesteps=0)
