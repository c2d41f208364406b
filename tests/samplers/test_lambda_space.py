import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.samplers.lambda_space import Known, Leap, exact_moments, leaps, phi
from etsdm.samplers.model import CLEAN, Point, Stated

lams = st.floats(-6, 5)


def variance_preserving(lam):
    return Point(0.5, 1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam)), lam)


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

    known = [Known(lam + r * length, tensor(m(r))) for r in [0.0, *nodes]]
    leap = Leap.between(s, t, predicts)
    found = leap.land(tensor(0.7), known, exact_moments(leap.h, degree)).item()
    # d(x/alpha)/dlambda = -e^-lambda eps,   d(x/sigma)/dlambda = e^lambda x0
    sign, of_s, of_t = (-1, s.alpha, t.alpha) if predicts == "eps" else (1, s.sigma, t.sigma)
    integral = mpmath.quad(lambda u: sign * mpmath.exp(sign * u) * m((u - lam) / length), [lam, lam + length / 2, lam + length])
    assert found == pytest.approx(of_t * (0.7 / of_s + float(integral)), rel=1e-9, abs=1e-9)


@given(lams, st.floats(0.05, 4), st.floats(-2, 2), st.floats(-2, 2), st.sampled_from(["eps", "x0"]))
def test_with_nothing_else_known_it_is_ddim(lam, length, x0, eps, predicts):
    s, t = variance_preserving(lam), variance_preserving(lam + length)
    said = Stated(tensor(x0), tensor(eps), None)
    x = s.alpha * said.x0 + s.sigma * said.eps
    leap = Leap.between(s, t, predicts)
    landed = leap.land(x, [Known(s.lam, getattr(said, predicts))], [])
    torch.testing.assert_close(landed, said.mixed(t.alpha, t.sigma), rtol=1e-12, atol=1e-12)


def test_what_is_given_is_left_as_it_was():
    s, t = variance_preserving(0.0), variance_preserving(1.0)
    x, m, other = tensor(0.3), tensor(0.1), tensor(0.2)
    Leap.between(s, t, "eps").land(x, [Known(0.0, m), Known(0.5, other)], exact_moments(1.0, 1))
    assert (x.item(), m.item(), other.item()) == (0.3, 0.1, 0.2)


def test_a_step_without_signal_or_noise_is_no_leap():
    s, t = variance_preserving(0.0), variance_preserving(1.0)
    pure_noise = Point(1.0, 0.0, 1.0, -math.inf)
    assert leaps(s, t)
    assert not leaps(pure_noise, t)
    assert not leaps(s, CLEAN)
    assert not leaps(pure_noise, CLEAN)


def test_ddim_to_the_clean_image_is_the_predicted_one_whatever_the_noise():
    said = Stated(tensor(0.4), tensor(math.inf), None)
    assert said.mixed(CLEAN.alpha, CLEAN.sigma).item() == 0.4
