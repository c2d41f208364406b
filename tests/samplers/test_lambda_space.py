import math
from typing import NamedTuple

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.denoisers.config import ScheduleConfig
from etsdm.denoisers.prediction import ForeignPrediction
from etsdm.denoisers.time_point import CLEAN, TimePoint
from etsdm.samplers.lambda_space import ExponentialStep, ModelValue, exact_moments, has_finite_step, phi
from etsdm.schedules import Linear

lams = st.floats(-6, 5)


class Point(NamedTuple):
    """Of a `TimePoint`, the numbers that an exponential step uses."""

    alpha: float
    sigma: float
    lam: float


def variance_preserving(lam):
    return Point(1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam)), lam)


def tensor(value):
    return torch.tensor([[float(value)]], dtype=torch.float64)


@given(st.integers(1, 5), st.floats(-40, 40))
def test_phi_is_its_integral(k, h):
    # phi_k(h) = int_0^1 e^((1 - u) h) u^(k-1) / (k-1)! du
    with mpmath.workdps(30):
        expected = mpmath.quad(lambda u: mpmath.exp((1 - u) * mpmath.mpf(h)) * u ** (k - 1) / mpmath.factorial(k - 1), [0, 0.5, 1])
    assert phi(k, h) == pytest.approx(float(expected), rel=1e-11)


@given(st.integers(1, 4), st.sampled_from([1e-12, -1e-9, 1e-5, -1e-3, 0.0]))
def test_phi_keeps_its_digits_near_zero(k, h):
    with mpmath.workdps(60):
        x = mpmath.mpf(h)
        expected = mpmath.nsum(lambda j: x**j / mpmath.factorial(j + k), [0, 12])
    assert phi(k, h) == pytest.approx(float(expected), rel=1e-15)


@given(lams, st.floats(0.05, 4), st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.sampled_from(["eps", "x0"]), st.data())
def test_a_network_that_is_a_polynomial_of_lambda_is_integrated_exactly(lam, length, coefficients, predicts, data):
    s, t = variance_preserving(lam), variance_preserving(lam + length)
    degree = len(coefficients) - 1
    nodes = data.draw(st.permutations([-2.0, -1.3, -0.4, 0.3, 0.6, 1.0]))[:degree]

    def m(r):
        return sum(c * r**k for k, c in enumerate(coefficients))

    values = [ModelValue(lam + r * length, tensor(m(r))) for r in [0.0, *nodes]]
    step = ExponentialStep.between(s, t, predicts)
    found = step.apply(tensor(0.7), values, exact_moments(step.h, degree)).item()
    # d(x/alpha)/dlambda = -e^-lambda eps,   d(x/sigma)/dlambda = e^lambda x0
    sign, of_s, of_t = (-1, s.alpha, t.alpha) if predicts == "eps" else (1, s.sigma, t.sigma)
    integral = mpmath.quad(lambda u: sign * mpmath.exp(sign * u) * m((u - lam) / length), [lam, lam + length / 2, lam + length])
    assert found == pytest.approx(of_t * (0.7 / of_s + float(integral)), rel=1e-9, abs=1e-9)


@given(lams, st.floats(0.05, 4), st.floats(-2, 2), st.floats(-2, 2), st.sampled_from(["eps", "x0"]))
def test_with_one_model_value_it_is_ddim(lam, length, x0, eps, predicts):
    s, t = variance_preserving(lam), variance_preserving(lam + length)
    x = s.alpha * tensor(x0) + s.sigma * tensor(eps)
    step = ExponentialStep.between(s, t, predicts)
    found = step.apply(x, [ModelValue(s.lam, tensor(x0 if predicts == "x0" else eps))], [])
    torch.testing.assert_close(found, t.alpha * tensor(x0) + t.sigma * tensor(eps), rtol=1e-12, atol=1e-12)


def test_the_arguments_are_left_as_they_were():
    s, t = variance_preserving(0.0), variance_preserving(1.0)
    x, m, other = tensor(0.3), tensor(0.1), tensor(0.2)
    ExponentialStep.between(s, t, "eps").apply(x, [ModelValue(0.0, m), ModelValue(0.5, other)], exact_moments(1.0, 1))
    assert (x.item(), m.item(), other.item()) == (0.3, 0.1, 0.2)


def test_a_step_without_signal_or_noise_is_not_finite():
    s, t = variance_preserving(0.0), variance_preserving(1.0)
    pure_noise = Point(0.0, 1.0, -math.inf)
    assert has_finite_step(s, t)
    assert not has_finite_step(pure_noise, t)
    assert not has_finite_step(s, CLEAN)
    assert not has_finite_step(pure_noise, CLEAN)


def test_ddim_to_the_clean_image_is_the_predicted_one_whatever_the_noise():
    config = ScheduleConfig(Linear())
    prediction = ForeignPrediction(config, tensor(1.0), TimePoint.at(config, 3.0), tensor(0.4), tensor(math.inf))
    assert prediction.combine(x0=CLEAN.alpha, eps=CLEAN.sigma).item() == 0.4
