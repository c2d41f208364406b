import pytest
import torch
from diffusers import EDMEulerScheduler
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.targets import EDM, V

SIGMA_DATA = st.floats(0.1, 3)
LEVELS = st.tuples(st.just(0.0) | st.floats(1e-6, 1), st.floats(1e-6, 100))


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def test_the_coefficients_are_those_of_the_article():
    alpha, sigma = torch.ones(4, dtype=torch.float64), torch.tensor([0.002, 0.5, 3, 80], dtype=torch.float64)
    c = EDM().coefficients(alpha, sigma)
    # Karras et al. 2022, table 1, with sigma_data = 0.5.
    torch.testing.assert_close(c.c_skip, 0.25 / (sigma**2 + 0.25))
    torch.testing.assert_close(c.c_out, sigma * 0.5 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(c.c_in, 1 / (sigma**2 + 0.25).sqrt())


def test_diffusers_has_the_same_image_and_the_same_input():
    peer = EDMEulerScheduler(sigma_data=0.7)
    x, output = number(1.3), number(-0.4)
    for sigma in (0.002, 0.3, 20.0):
        c = EDM(sigma_data=0.7).coefficients(number(1.0), number(sigma))
        torch.testing.assert_close(c.c_skip * x + c.c_out * output, peer.precondition_outputs(x, output, sigma))
        # In single precision there.
        torch.testing.assert_close(c.c_in * x, peer.precondition_inputs(x, sigma).double(), rtol=1e-6, atol=0)


@given(LEVELS, SIGMA_DATA, st.floats(0.1, 10))
def test_the_target_depends_on_the_ratio_of_noise_to_signal_alone(level, sigma_data, scale):
    (alpha, sigma), target = map(number, level), EDM(sigma_data=sigma_data)
    for found, known in zip(target.output_weights(scale * alpha, scale * sigma), target.output_weights(alpha, sigma), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-13, atol=0)


@given(LEVELS, SIGMA_DATA)
def test_input_and_ideal_output_have_unit_variance(level, sigma_data):
    alpha, sigma = map(number, level)
    target = EDM(sigma_data=sigma_data)
    k_x0, k_eps = target.output_weights(alpha, sigma)
    assert (k_x0**2 * sigma_data**2 + k_eps**2).item() == pytest.approx(1, rel=1e-13)
    assert (target.c_in(alpha, sigma) ** 2 * (alpha**2 * sigma_data**2 + sigma**2)).item() == pytest.approx(1, rel=1e-13)


@given(st.floats(0.01, 1), st.floats(0.01, 10), SIGMA_DATA, st.floats(-3, 3))
def test_the_optimum_for_normal_data_is_zero(alpha, sigma, sigma_data, x):
    # x0 ~ N(0, sd^2): the score of x is -x / (alpha^2 sd^2 + sigma^2), and the skip connection alone is the optimal denoiser.
    score = -x / (alpha**2 * sigma_data**2 + sigma**2)
    x0, eps = number((x + sigma**2 * score) / alpha), number(-sigma * score)
    found = EDM(sigma_data=sigma_data).training_target(x0, eps, number(alpha), number(sigma))
    assert found.item() == pytest.approx(0, abs=1e-12 / alpha * (1 + sigma / sigma_data))


def test_the_optimum_is_linear_in_sigma_near_zero():
    # x0 from a mixture of three normals, x = 0.7: the score at sigma = 0 is -1.0354265, and F / sigma tends to
    # s(x, 0) + x / sd^2 = -1.0354265 + 2.8 (derived in closed form).
    means, spreads, weights = number([-1.5, 0.2, 1.4]), number([0.3, 0.5, 0.4]), number([0.3, 0.5, 0.2])
    for sigma in (1e-3, 1e-4):
        x = number(0.7).requires_grad_()
        variance = spreads**2 + sigma**2
        log_density = (weights.log() - variance.log() / 2 - (x - means) ** 2 / (2 * variance)).logsumexp(0)
        (score,) = torch.autograd.grad(log_density, x)
        optimum = EDM().training_target(x.detach() + sigma**2 * score, -sigma * score, number(1.0), number(sigma))
        assert (optimum / sigma).item() == pytest.approx(1.764573, abs=20 * sigma**2 + 1e-6)


def test_with_unit_data_and_a_variance_preserving_schedule_it_is_the_velocity_negated():
    # sd = 1, alpha^2 + sigma^2 = 1: r = 1, F = sigma x0 - alpha eps.
    alpha, sigma = number([0.8, 0.6, 0.0]), number([0.6, 0.8, 1.0])
    for found, known in zip(EDM(sigma_data=1).output_weights(alpha, sigma), V().output_weights(alpha, sigma), strict=True):
        torch.testing.assert_close(found, -known)


@pytest.mark.parametrize("value", [0, -0.5, float("inf")])
def test_a_spread_of_the_data_that_is_none_is_refused(value):
    with pytest.raises(ValidationError, match="sigma_data"):
        EDM(sigma_data=value)
