"""Every target against the identities of x = alpha x0 + sigma eps with alpha^2 + sigma^2 = 1, on random numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.randomness import generator
from etsdm.registry import targets
from etsdm.targets import X0, Eps, V

ANGLES = st.floats(0.1, 1.4)  # alpha = cos, sigma = sin
every_target = pytest.mark.parametrize("target", [targets.create(name) for name in targets], ids=list(targets))


def case(angle):
    """Random x0 and eps with alpha and sigma at an angle, float64."""
    x0, eps = torch.randn(2, 3, 1, 4, 4, generator=generator(0, "test/targets"), dtype=torch.float64)
    angle = torch.tensor(angle, dtype=torch.float64)
    return x0, eps, angle.cos(), angle.sin()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@given(ANGLES)
def test_the_ideal_outputs_are_noise_image_and_velocity(angle):
    x0, eps, alpha, sigma = case(angle)
    close(Eps().value(x0, eps, alpha, sigma), eps)
    close(X0().value(x0, eps, alpha, sigma), x0)
    close(V().value(x0, eps, alpha, sigma), alpha * eps - sigma * x0)  # paper, below Eq. A9


@every_target
@given(angle=ANGLES)
def test_image_and_noise_come_back_from_the_ideal_output(target, angle):
    x0, eps, alpha, sigma = case(angle)
    x, output = alpha * x0 + sigma * eps, target.value(x0, eps, alpha, sigma)
    c = target.coefficients(alpha, sigma)
    close(c.c_skip * x + c.c_out * output, x0)
    close(c.e_skip * x + c.e_out * output, eps)


@every_target
@given(angle=ANGLES)
def test_any_output_gives_an_image_and_a_noise_that_make_up_x(target, angle):
    x, output, alpha, sigma = case(angle)
    c = target.coefficients(alpha, sigma)
    x0, eps = c.c_skip * x + c.c_out * output, c.e_skip * x + c.e_out * output
    close(alpha * x0 + sigma * eps, x)
    close(target.value(x0, eps, alpha, sigma), output)


def test_the_coefficients_are_the_known_ones():
    alpha, sigma = numbers(0.8, 0.6), numbers(0.6, 0.8)
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    expected = {
        "eps": (one, 1 / alpha, -sigma / alpha, zero, one),  # x0 = (x - sigma eps) / alpha
        "x0": (one, zero, one, 1 / sigma, -alpha / sigma),  # eps = (x - alpha x0) / sigma
        "v": (one, alpha, -sigma, sigma, alpha),  # x0 = alpha x - sigma v, eps = alpha v + sigma x
    }
    for name in targets:
        for found, known in zip(targets.create(name).coefficients(alpha, sigma), expected[name], strict=True):
            close(found, known)


@pytest.mark.parametrize("target", [Eps(), V(), X0()], ids=str)
def test_the_image_is_known_where_there_is_no_noise(target):
    c = target.coefficients(numbers(1), numbers(0))
    # At sigma = 0 x is x0; the output is x0, or has no weight.
    assert (c.c_skip + c.c_out * (1 if isinstance(target, X0) else 7)).item() == 1


@pytest.mark.parametrize("target", [V(), X0()], ids=str)
def test_image_and_noise_are_known_where_there_is_no_signal(target):
    x, x0 = 0.7, -0.3
    alpha, sigma = numbers(0), numbers(1)
    output = target.value(numbers(x0), numbers(x), alpha, sigma)
    c = target.coefficients(alpha, sigma)
    close(c.c_skip * x + c.c_out * output, numbers(x0))
    close(c.e_skip * x + c.e_out * output, numbers(x))


def test_noise_prediction_knows_no_image_where_there_is_no_signal():
    assert math.isinf(Eps().coefficients(numbers(0), numbers(1)).c_skip.item())


@every_target
def test_coefficients_have_the_shape_of_alpha(target):
    alpha = torch.full((5, 1, 1, 1), 0.6, dtype=torch.float64)
    for value in target.coefficients(alpha, (1 - alpha**2).sqrt()):
        assert value.shape == alpha.shape
        assert value.dtype == torch.float64


@every_target
def test_the_ideal_output_has_the_dtype_of_the_images(target):
    x0 = torch.zeros(2, 1, 4, 4)
    assert target.value(x0, x0, numbers(0.8), numbers(0.6)).dtype == torch.float32
