"""Theorem 3.1 on two mixtures and four schedules; M1 lies on a line and is looked at in .7, M2 in the plane and in (.7, -.4)."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from etsdm.schedules import (
    EDM,
    VPEDM,
    CosineContinuous,
    Flow,
    LinearContinuous,
    QuadraticContinuous,
    Sigmoid,
    ZeroTerminalContinuous,
)
from etsdm.theory import mixture, optimum, optimum_rates, rates_at_zero

SCHEDULES = {
    "linear": LinearContinuous(),
    "quadratic": QuadraticContinuous(),
    "cosine": CosineContinuous(),
    "zero-terminal": ZeroTerminalContinuous(),
}
OTHERS = {"flow": Flow(), "edm": EDM(), "vp-edm": VPEDM(), "sigmoid": Sigmoid()}
POINTS = {"m1": torch.tensor([0.7], dtype=torch.float64), "m2": torch.tensor([0.7, -0.4], dtype=torch.float64)}

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_mixture = pytest.mark.parametrize("name", POINTS)


def reference_score(name, schedule, x, t):
    """The score by automatic differentiation of the density that torch.distributions gives."""
    found = mixture(name)
    alpha, sigma = schedule.alpha_sigma(t)
    scale = torch.sqrt(alpha**2 * found.stds**2 + sigma**2)[:, None].expand_as(found.means)
    noisy = MixtureSameFamily(Categorical(found.weights), Independent(Normal(alpha * found.means, scale), 1))
    return torch.func.grad(noisy.log_prob)(x)


def derivative(f, t):
    return torch.func.jvp(f, (torch.tensor(t, dtype=torch.float64),), (torch.ones((), dtype=torch.float64),))[1]


def relative(found, expected):
    return (found - expected).norm() / expected.norm()


@every_mixture
@every_schedule
@pytest.mark.parametrize("t", [1e-6, 0.01, 0.3, 0.9])
def test_the_rate_of_eps_is_its_derivative(name, schedule, t):
    x = POINTS[name]
    expected = derivative(lambda t: -schedule.sigma(t) * reference_score(name, schedule, x, t), t)
    assert relative(optimum_rates(mixture(name), schedule, x, t).eps, expected) < 1e-10


@every_mixture
@every_schedule
@pytest.mark.parametrize("t", [1e-6, 0.01, 0.3, 0.9])
def test_the_rate_of_v_is_its_derivative(name, schedule, t):
    x = POINTS[name]

    def v(t):
        alpha, sigma = schedule.alpha_sigma(t)
        return -sigma / alpha * (x + reference_score(name, schedule, x, t))  # paper Eq. A10

    assert relative(optimum_rates(mixture(name), schedule, x, t).v, derivative(v, t)) < 1e-10


@every_mixture
@pytest.mark.parametrize("schedule", {**SCHEDULES, **OTHERS}.values(), ids={**SCHEDULES, **OTHERS})
@pytest.mark.parametrize("t", [0.01, 0.3])
def test_all_rates_are_derivatives_whether_or_not_variance_is_preserved(name, schedule, t):
    x = POINTS[name]

    def reference(t):
        alpha, sigma = schedule.alpha_sigma(t)
        score = reference_score(name, schedule, x, t)
        x0 = (x + sigma**2 * score) / alpha
        return score, -sigma * score, -alpha * sigma * score - sigma * x0, x0

    for rate, expected in zip(optimum_rates(mixture(name), schedule, x, t), derivative(reference, t), strict=True):
        assert relative(rate, expected) < 1e-10


@every_mixture
@every_schedule
@pytest.mark.parametrize("t", [1e-6, 0.01, 0.3, 0.9])
def test_the_rates_are_as_the_paper_writes_them(name, schedule, t):
    x = POINTS[name]
    alpha, (d_alpha, _) = schedule.alpha(t), schedule.rates(t)
    sigma = schedule.sigma(t)  # sqrt(1 - alpha^2) with all its digits
    at, rates = optimum(mixture(name), schedule, x, t), optimum_rates(mixture(name), schedule, x, t)
    eq_5 = alpha / sigma * d_alpha * at.score - sigma * rates.score
    eq_a11 = d_alpha / (alpha**2 * sigma) * (x + at.score) - sigma / alpha * rates.score
    assert relative(rates.eps, eq_5) < 1e-10
    assert relative(rates.v, eq_a11) < 1e-10


# In closed form from the schedules' alpha'(0) = -.05, -.05, -.0194281, -.05/(1 - alpha(1)) and the score at t = 0.
LIMITS = {
    ("m1", "linear"): (0.163715, 0.053036, 0.0685),
    ("m1", "quadratic"): (0.163715, 0.053036, 0.0685),
    ("m1", "cosine"): (0.102052, 0.033060, 0.0266),
    ("m1", "zero-terminal"): (0.164256, 0.053211, 0.0690),
    ("m2", "linear"): (0.484614, 0.478778, 0.3020),
    ("m2", "quadratic"): (0.484614, 0.478778, 0.3020),
    ("m2", "cosine"): (0.302083, 0.298445, 0.1173),
    ("m2", "zero-terminal"): (0.486215, 0.480359, 0.3040),
}


@pytest.mark.parametrize(("name", "schedule"), LIMITS)
def test_the_limits_at_zero_have_these_values(name, schedule):
    limits = rates_at_zero(mixture(name), SCHEDULES[schedule], POINTS[name])
    eps, v, x0 = LIMITS[name, schedule]
    assert limits.eps.norm().item() == pytest.approx(eps, abs=6e-7)
    assert limits.v.norm().item() == pytest.approx(v, abs=6e-7)
    assert limits.x0.norm().item() == pytest.approx(x0, abs=6e-5)


@every_mixture
@every_schedule
def test_the_rates_of_eps_and_v_grow_as_one_over_the_root_of_time(name, schedule):
    t, x = 1e-9, POINTS[name]
    rates, limits = optimum_rates(mixture(name), schedule, x, t), rates_at_zero(mixture(name), schedule, x)
    assert relative(math.sqrt(t) * rates.eps, limits.eps) < 1e-4
    assert relative(math.sqrt(t) * rates.v, limits.v) < 1e-4


@every_mixture
@every_schedule
def test_the_limits_are_those_of_the_theorem(name, schedule):
    x = POINTS[name]
    score = reference_score(name, schedule, x, torch.zeros((), dtype=torch.float64))
    d_alpha = schedule.rates(0.0)[0].item()
    limits = rates_at_zero(mixture(name), schedule, x)
    assert limits.eps.norm().item() == pytest.approx(math.sqrt(abs(d_alpha) / 2) * score.norm().item(), rel=1e-12)
    assert limits.v.norm().item() == pytest.approx(math.sqrt(abs(d_alpha) / 2) * (x + score).norm().item(), rel=1e-12)
    assert limits.x0.norm().item() == pytest.approx(abs(d_alpha) * (x + 2 * score).norm().item(), rel=1e-12)


@every_mixture
@every_schedule
def test_the_rate_of_x0_stays_finite(name, schedule):
    x = POINTS[name]
    limit = rates_at_zero(mixture(name), schedule, x).x0
    assert torch.equal(optimum_rates(mixture(name), schedule, x, 0.0).x0.isfinite(), torch.ones_like(x, dtype=torch.bool))
    for t in (0.0, 1e-12, 1e-9):
        assert relative(optimum_rates(mixture(name), schedule, x, t).x0, limit) < 1e-6


@every_mixture
@pytest.mark.parametrize("schedule", [LinearContinuous(beta_min=0), CosineContinuous(s=0), Flow(), EDM()])
def test_a_schedule_with_a_flat_start_has_no_singularity(name, schedule):
    x, slope = POINTS[name], schedule.slope_at_zero()
    limits = rates_at_zero(mixture(name), schedule, x)
    assert not slope.singular
    assert not limits.eps.any()
    assert not limits.v.any()
    score = optimum(mixture(name), schedule, x, 0.0).score
    assert relative(optimum_rates(mixture(name), schedule, x, 1e-9).eps, -slope.value * score) < 1e-6


def test_values_at_a_hundredth_of_the_time():
    # The linear schedule, by an independent computation in float64.
    linear = SCHEDULES["linear"]
    m1, m2 = mixture("m1"), mixture("m2")
    assert optimum(m1, linear, POINTS["m1"], 0.0).score.item() == pytest.approx(-1.0354265, abs=6e-8)
    assert optimum(m1, linear, POINTS["m1"], 0.01).score.item() == pytest.approx(-1.0202380, abs=6e-8)
    assert optimum(m1, linear, POINTS["m1"], 0.01).eps.item() == pytest.approx(0.0455466, abs=6e-8)
    assert optimum_rates(m1, linear, POINTS["m1"], 0.01).eps.item() == pytest.approx(3.3095048, abs=6e-8)
    assert optimum(m2, linear, POINTS["m2"], 0.01).score.tolist() == pytest.approx([-1.9549870, -2.3290964], abs=6e-8)
    assert optimum_rates(m2, linear, POINTS["m2"], 0.01).eps.tolist() == pytest.approx([6.4488296, 7.6455066], abs=6e-8)


@every_schedule
def test_on_normal_data_eps_is_sigma_x_and_v_vanishes(schedule):
    # Paper Eq. 7: the noisy density is N(0, 1) at each t, its score -x.
    x = torch.tensor([0.7], dtype=torch.float64)
    for t in (1e-6, 0.2, 0.8):
        at, rates = optimum(mixture("normal"), schedule, x, t), optimum_rates(mixture("normal"), schedule, x, t)
        assert at.score.item() == pytest.approx(-0.7, rel=1e-14)
        assert at.eps.item() == pytest.approx(0.7 * schedule.sigma(t).item(), rel=1e-14)
        assert abs(at.v.item()) < 1e-15
        assert rates.eps.item() == pytest.approx(0.7 * derivative(schedule.sigma, t).item(), rel=1e-10)
    assert rates_at_zero(mixture("normal"), schedule, x).v.item() == pytest.approx(0, abs=1e-16)


def test_points_and_times_broadcast():
    x, t = POINTS["m2"].expand(3, 1, 2), torch.tensor([0.1, 0.5], dtype=torch.float64)
    rates = optimum_rates(mixture("m2"), LinearContinuous(), x, t)
    assert rates.eps.shape == (3, 2, 2)
    assert torch.allclose(rates.eps[1, 1], optimum_rates(mixture("m2"), LinearContinuous(), POINTS["m2"], 0.5).eps, rtol=1e-13)


def test_a_time_outside_the_schedule_is_refused():
    with pytest.raises(ValueError, match=r"t: 1\.5 is outside the times of schedule 'linear-continuous'"):
        optimum(mixture("m1"), LinearContinuous(), POINTS["m1"], 1.5)
