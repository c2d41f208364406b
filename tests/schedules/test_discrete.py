"""Laws of every discrete schedule."""

import copy
import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.registry import schedules
from etsdm.schedules import Cosine, CosineShift, FromBetas, Linear, LinearContinuous, ModifiedQuadratic, Quadratic, ZeroTerminal

DISCRETE = [name for name in schedules if schedules[name].is_discrete and schedules[name] is not ZeroTerminal]
SCHEDULES = [
    Linear(),
    Quadratic(),
    Quadratic(beta_start=0.0015, beta_end=0.0195),
    Cosine(),
    Linear(timesteps=10),
    Linear(timesteps=2),
    Cosine(timesteps=2),
    Linear(beta_start=1e-12, beta_end=1e-3),
    Linear(beta_start=0, grid="paper"),
    ModifiedQuadratic(),
    CosineShift(),
]
schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
FRACTIONS = st.floats(0, 1)


class Steps(FromBetas):
    """A schedule of given betas."""

    steps: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0)

    @property
    def betas(self):
        return torch.tensor(self.steps, dtype=torch.float64)

    @property
    def continuous(self):
        return LinearContinuous()


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
def test_sigma_keeps_its_digits_near_zero(schedule):
    # Real arithmetic from the same betas, by mpmath.
    torch.testing.assert_close(schedule.sigma(indices(schedule)), exact_sigma(schedule.betas), rtol=1e-14, atol=0)


@schedule
def test_alpha_bar_is_the_product_of_one_minus_beta(schedule):
    torch.testing.assert_close(schedule.alpha_bar(indices(schedule)), (1 - schedule.betas).cumprod(0), rtol=1e-12, atol=0)


@schedule
@given(fraction=FRACTIONS, w=FRACTIONS)
def test_log_snr_is_interpolated_between_indices(schedule, fraction, w):
    i = min(int(fraction * schedule.timesteps), schedule.timesteps - 2)
    left, right = schedule.log_snr(i), schedule.log_snr(i + 1)
    found = schedule.log_snr(torch.tensor(i + w, dtype=torch.float64))
    torch.testing.assert_close(found, (1 - w) * left + w * right, rtol=0, atol=1e-11)


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
    with pytest.raises(ValueError, match=rf"^t: {value} .* 'linear'; give t in \[0, 999\]$"):
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
    last = Steps()
    assert last.alpha(3) == 0
    assert last.sigma(3) == 1
    assert last.log_snr(3) == -math.inf
    assert last.t_of_log_snr(-math.inf) == 3


def test_alpha_falls_linearly_to_no_signal():
    # alpha_bar is 0.9 * 0.8 * 0.5 = 0.36 at index 2; SNR = 0.36/0.64 (1 - w)^2 with w of the way to index 3.
    w = torch.tensor([0.0, 0.25, 0.5, 1 - 2**-20], dtype=torch.float64)
    snr = 0.36 / 0.64 * (1 - w) ** 2
    torch.testing.assert_close(Steps().snr(2 + w), snr, rtol=1e-14, atol=0)
    torch.testing.assert_close(Steps().t_of_log_snr(snr.log()), 2 + w, rtol=1e-14, atol=0)


def test_sigma_rises_linearly_from_no_noise():
    # beta = (0, 0.36): sigma is 0 at index 0 and 0.6 at index 1; SNR = 0.64/0.36 / w^2.
    first = Steps(steps=(0.0, 0.36, 0.5))
    assert first.sigma(0) == 0
    assert first.alpha(0) == 1
    w = torch.tensor([1e-9, 0.25, 0.5, 1.0], dtype=torch.float64)
    snr = 0.64 / 0.36 / w**2
    torch.testing.assert_close(first.snr(w), snr, rtol=1e-14, atol=0)
    torch.testing.assert_close(first.t_of_log_snr(snr.log()), w, rtol=1e-14, atol=0)


def test_from_no_noise_to_no_signal_in_one_step():
    both = Steps(steps=(0.0, 1.0))
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(both.alpha(t), torch.tensor([1, 0.9**0.5, 0.5**0.5, 0], dtype=torch.float64))  # 3^2 to 1 at 1/4
    torch.testing.assert_close(both.t_of_log_snr(both.log_snr(t)), t)


def test_beta_is_interpolated_between_indices():
    found = Steps().beta(torch.tensor([0.0, 0.5, 1.0, 2.25, 3.0]))
    torch.testing.assert_close(found, torch.tensor([0.1, 0.15, 0.2, 0.625, 1.0], dtype=torch.float64))


@schedule
def test_betas_are_the_share_of_signal_that_each_step_takes(schedule):
    with mpmath.workdps(50):
        bar = [1 / (1 + mpmath.exp(-mpmath.mpf(value))) for value in schedule.log_snrs.tolist()]
        shares = [float(1 - now / before) for now, before in zip(bar, [mpmath.mpf(1), *bar], strict=False)]
    torch.testing.assert_close(schedule.betas, torch.tensor(shares, dtype=torch.float64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", DISCRETE)
def test_many_timesteps_approach_the_continuous_schedule(name):
    # Away from the ends, where one timestep of a thousand is much.
    fraction = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    errors = []
    for timesteps in (1000, 4000):
        # T beta is the process: four times the timesteps add a fourth of the variance each.
        thousand = schedules.create(name).model_dump(exclude={"timesteps", "type"})
        betas = {field: thousand[field] * 1000 / timesteps for field in thousand if field in ("beta_start", "beta_end")}
        many = schedules[name](**{**thousand, **betas, "timesteps": timesteps})
        error = many.log_snr(fraction * timesteps - 1) - many.continuous.log_snr(fraction)
        errors.append(error.abs().max().item())
    coarse, fine = errors
    assert fine < max(coarse / 3, 1e-9)  # of first order: a fourth
    assert fine < 2e-2


@pytest.mark.parametrize(
    ("schedule", "increments"),
    [
        (Linear(), (4.829, 4.137, 3.459, 3.284, 3.094, 2.911, 2.293, 0.408)),
        (Quadratic(), (4.235, 3.313, 2.203, 1.804, 1.435, 1.541, 1.751, 1.166)),
        (Cosine(), (2.925, 2.415, 1.869, 1.708, 1.566, 1.540, 1.477, 1.093)),
    ],
    ids=["linear", "quadratic", "cosine"],
)
def test_sigma_grows_fastest_at_the_first_timesteps(schedule, increments):
    # T (sigma[i+1] - sigma[i]) from alpha_bar = prod (1 - beta) alone, to three decimals.
    i = torch.tensor([0, 1, 5, 10, 50, 99, 200, 500])
    assert (1000 * (schedule.sigma(i + 1) - schedule.sigma(i))).tolist() == pytest.approx(increments, abs=6e-4)


def test_no_timesteps_are_refused():
    with pytest.raises(ValueError, match="timesteps"):
        Linear(timesteps=0)


def test_a_copy_with_changes_forgets_what_was_derived_from_the_old_values_and_is_checked():
    schedule = Linear(timesteps=10)
    assert schedule.horizon == 10
    longer = schedule.model_copy(update={"timesteps": 20})
    assert longer.horizon == 20
    assert longer == Linear(timesteps=20)
    with pytest.raises(ValidationError):
        schedule.model_copy(update={"timesteps": 0})


def test_a_schedule_first_called_under_a_transform_or_another_device_keeps_ordinary_tables():
    schedule, other = Linear(timesteps=10), Linear(timesteps=12)
    torch.func.jvp(schedule.log_snr, (torch.tensor([3.5], dtype=torch.float64),), (torch.ones(1, dtype=torch.float64),))
    with torch.device("meta"):
        other.alpha_sigma(3.0)
    assert torch.equal(copy.deepcopy(schedule).sigma(3), Linear(timesteps=10).sigma(3))
    assert torch.equal(other.sigma(3), Linear(timesteps=12).sigma(3))


def test_a_number_gives_what_a_tensor_gives():
    schedule = Linear()
    for t in (0, 7.0, 7.5, 999):
        number, tensor = schedule.alpha_sigma(t), schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64))
        assert all(torch.equal(one, other) for one, other in zip(number, tensor, strict=True))
    with pytest.raises(ValueError, match=r"^t: 1000 .* 'linear'; give t in \[0, 999\]$"):
        schedule.alpha_sigma(1000)
