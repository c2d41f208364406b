"""Every continuous schedule against its definition, evaluated with 60 digits by mpmath."""

import mpmath as mp
import pytest
import torch

from etsdm.registry import schedules
from etsdm.schedules import (
    EDM,
    VE,
    VPEDM,
    Continuous,
    CosineContinuous,
    CosineShiftContinuous,
    CosineShiftSimpleContinuous,
    Flow,
    LinearContinuous,
    QuadraticContinuous,
    Sigmoid,
    ZeroTerminalContinuous,
)

DIGITS = 60
TINY = [1e-12, 1e-9, 1e-6, 1e-3]
TIMES = [*TINY, 0.1, 0.25, 0.5, 0.75, 0.9, *(1 - t for t in reversed(TINY))]


def m(x):
    """The float itself, whose decimal form it only approximates."""
    return mp.mpf(x)


def polynomial(power, low, high):
    """alpha and sigma of beta = (a + b t)^power by its integral, ((a + b t)^(power+1) - a^(power+1))/(b (power+1))."""

    def curve(t):
        a = m(low) ** (m(1) / power)
        b = m(high) ** (m(1) / power) - a
        integral = ((a + b * t) ** (power + 1) - a ** (power + 1)) / (b * (power + 1))
        return mp.exp(-integral / 2), mp.sqrt(-mp.expm1(-integral))

    return curve


def cosine(s):
    def curve(t):
        angle = [(u + m(s)) / (1 + m(s)) * mp.pi / 2 for u in (m(0), t)]
        alpha = mp.cos(angle[1]) / mp.cos(angle[0])
        return alpha, mp.sqrt(1 - alpha**2)

    return curve


def from_log_snr(log_snr):
    def curve(t):
        snr = mp.exp(log_snr(t))
        return mp.sqrt(snr / (1 + snr)), mp.sqrt(1 / (1 + snr))

    return curve


def shifted(curve, size):
    def log_snr(t):
        alpha, sigma = curve(t)
        return 2 * mp.log(alpha / sigma) + 2 * mp.log(m(64) / size)

    return from_log_snr(log_snr)


def bounded(bound, size):
    def log_snr(t):
        low = mp.atan(mp.exp(-m(bound) / 2))
        high = mp.atan(mp.exp(m(bound) / 2))
        return -2 * mp.log(mp.tan(low + t * (high - low))) + 2 * mp.log(m(64) / size)

    return from_log_snr(log_snr)


def rescaled(curve):
    def zero_terminal(t):
        last = curve(m(1))[0]
        alpha = (curve(t)[0] - last) / (1 - last)
        return alpha, mp.sqrt(1 - alpha**2)

    return zero_terminal


def sigmoid(start, end, tau):
    def logistic(u):
        return 1 / (1 + mp.exp(-u / m(tau)))

    def curve(t):
        start_, end_ = m(start), m(end)
        bar = (logistic(end_) - logistic(start_ + t * (end_ - start_))) / (logistic(end_) - logistic(start_))
        return mp.sqrt(bar), mp.sqrt(1 - bar)

    return curve


def unscaled(curve):
    def divided(t):
        alpha, sigma = curve(t)
        return m(1), sigma / alpha

    return divided


CURVES = {
    LinearContinuous(): polynomial(1, 0.1, 20.0),
    LinearContinuous(beta_min=0.0): polynomial(1, 0.0, 20.0),
    LinearContinuous(beta_min=5.0, beta_max=0.5): polynomial(1, 5.0, 0.5),
    QuadraticContinuous(): polynomial(2, 0.1, 20.0),
    QuadraticContinuous(beta_min=0.0, beta_max=21.5): polynomial(2, 0.0, 21.5),
    CosineContinuous(): cosine(0.008),
    CosineContinuous(s=0.0): cosine(0.0),
    CosineContinuous(s=0.5): cosine(0.5),
    CosineShiftContinuous(): shifted(cosine(0.008), 256),
    CosineShiftContinuous(image_size=32): shifted(cosine(0.008), 32),
    CosineShiftSimpleContinuous(): shifted(cosine(0.0), 256),
    CosineShiftSimpleContinuous(image_size=128, log_snr_bound=15.0): bounded(15.0, 128),
    ZeroTerminalContinuous(): rescaled(polynomial(1, 0.1, 20.0)),
    ZeroTerminalContinuous(base=QuadraticContinuous()): rescaled(polynomial(2, 0.1, 20.0)),
    ZeroTerminalContinuous(base=LinearContinuous(beta_min=0.0)): rescaled(polynomial(1, 0.0, 20.0)),
    ZeroTerminalContinuous(base=CosineContinuous()): cosine(0.008),  # it ends without signal already
    Sigmoid(): sigmoid(-3.0, 3.0, 1.0),
    Sigmoid(start=0.0, end=3.0, tau=0.3): sigmoid(0.0, 3.0, 0.3),
    Sigmoid(start=-3.0, end=3.0, tau=0.1): sigmoid(-3.0, 3.0, 0.1),
    Flow(): lambda t: (1 - t, t),
    EDM(): lambda t: (m(1), t),
    VE(): lambda t: (m(1), m(0.02) * (m(100) / m(0.02)) ** t),
    VPEDM(): unscaled(polynomial(1, 0.1, 20.0)),
}
every = pytest.mark.parametrize("schedule", CURVES, ids=str)


def exact(schedule, quantity, times):
    with mp.workdps(DIGITS):
        return torch.tensor([float(quantity(CURVES[schedule], m(t))) for t in times], dtype=torch.float64)


def alpha_of(curve, t):
    return curve(t)[0]


def sigma_of(curve, t):
    return curve(t)[1]


def test_every_registered_continuous_schedule_has_a_definition_here():
    registered = {schedules[name] for name in schedules if issubclass(schedules[name], Continuous)}
    assert registered == {type(schedule) for schedule in CURVES}


@every
def test_sigma_keeps_its_digits_from_the_first_instant_on(schedule):
    found = schedule.sigma(torch.tensor(TIMES, dtype=torch.float64))
    torch.testing.assert_close(found, exact(schedule, sigma_of, TIMES), rtol=1e-14, atol=0)


@every
def test_alpha_keeps_its_digits_as_it_vanishes(schedule):
    found = schedule.alpha(torch.tensor(TIMES, dtype=torch.float64))
    torch.testing.assert_close(found, exact(schedule, alpha_of, TIMES), rtol=1e-14, atol=0)


@every
def test_log_snr_is_two_logs_of_the_ratio(schedule):
    found = schedule.log_snr(torch.tensor(TIMES, dtype=torch.float64))
    expected = exact(schedule, lambda curve, t: 2 * mp.log(curve(t)[0] / curve(t)[1]), TIMES)
    torch.testing.assert_close(found, expected, rtol=0, atol=4e-14)


@every
def test_rates_are_the_derivatives(schedule):
    times = [0.01, 0.1, 0.3, 0.5, 0.8, 0.99]
    alpha_rate, variance_rate = schedule.rates(torch.tensor(times, dtype=torch.float64))
    torch.testing.assert_close(alpha_rate, exact(schedule, lambda curve, t: mp.diff(lambda u: curve(u)[0], t), times), rtol=1e-12, atol=0)
    expected = exact(schedule, lambda curve, t: mp.diff(lambda u: curve(u)[1] ** 2, t), times)
    torch.testing.assert_close(variance_rate, expected, rtol=1e-12, atol=0)


@every
def test_beta_is_minus_twice_the_rate_of_log_alpha(schedule):
    times = [0.01, 0.1, 0.5, 0.9]
    expected = exact(schedule, lambda curve, t: -2 * mp.diff(lambda u: mp.log(curve(u)[0]), t), times)
    torch.testing.assert_close(schedule.beta(torch.tensor(times, dtype=torch.float64)), expected, rtol=1e-12, atol=1e-30)


@every
def test_the_slope_at_zero_is_the_limit_of_its_derivative(schedule):
    # Of sigma = c sqrt(t) the derivative doubles where t is four times smaller; of sigma = c t or c t^(3/2) it does not grow.
    curve = CURVES[schedule]
    with mp.workdps(DIGITS):
        near, nearer = (mp.diff(lambda u: curve(u)[1], m(t), h=m(t) * m(10) ** -15) for t in (4e-12, 1e-12))
        grows = nearer / near > 1.5
        limit = float(nearer * mp.sqrt(m(1e-12)) if grows else nearer)
    assert schedule.slope_at_zero().singular == grows
    assert schedule.slope_at_zero().value == pytest.approx(limit, rel=1e-5, abs=1e-4)


@every
def test_rates_are_finite_at_zero(schedule):
    assert all(rate.isfinite() for rate in schedule.rates(0.0))


@every
def test_the_horizon_is_the_last_time(schedule):
    assert not schedule.is_discrete
    assert schedule.domain == (0, schedule.horizon)
    assert schedule.horizon == (80 if isinstance(schedule, EDM) else 1)


CLEAN_START = [schedule for schedule in CURVES if not isinstance(schedule, VE) and getattr(schedule, "log_snr_bound", None) is None]
NO_SIGNAL_LEFT = [
    CosineContinuous(),
    CosineContinuous(s=0.0),
    CosineShiftContinuous(),
    CosineShiftSimpleContinuous(),
    ZeroTerminalContinuous(),
    ZeroTerminalContinuous(base=QuadraticContinuous()),
    Sigmoid(),
    Flow(),
]


@pytest.mark.parametrize("schedule", CLEAN_START, ids=str)
def test_at_zero_the_image_is_clean(schedule):
    assert schedule.sigma(0.0) == 0
    assert schedule.alpha(0.0).item() == pytest.approx(1, abs=1e-15)
    assert schedule.log_snr(0.0) == torch.inf
    assert schedule.t_of_log_snr(torch.inf) == 0


@pytest.mark.parametrize("schedule", CLEAN_START, ids=str)
@pytest.mark.parametrize("t", [1e-12, 1e-8, 1e-4])
def test_the_inverse_keeps_relative_digits_near_zero(schedule, t):
    # lambda, 27 or more, is near -log t or -2 log t: an error of some ulp of it, 4e-15 each, is that share of t.
    assert schedule.t_of_log_snr(schedule.log_snr(t)).item() == pytest.approx(t, rel=3e-14)


@pytest.mark.parametrize("schedule", NO_SIGNAL_LEFT, ids=str)
def test_at_one_no_signal_may_be_left(schedule):
    assert schedule.alpha(1.0) == 0
    assert schedule.sigma(1.0).item() == pytest.approx(1, abs=1e-15)
    assert schedule.log_snr(1.0) == -torch.inf
    assert schedule.t_of_log_snr(-torch.inf).item() == pytest.approx(1, abs=1e-15)
