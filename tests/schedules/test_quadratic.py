import pytest
import torch

from etsdm.registry import schedules
from etsdm.schedules import Linear, Quadratic, QuadraticContinuous


def test_roots_of_the_betas_are_equally_spaced():
    betas = Quadratic(timesteps=4, beta_start=0.01, beta_end=0.16).betas
    torch.testing.assert_close(betas, torch.tensor([0.01, 0.04, 0.09, 0.16], dtype=torch.float64))


def test_it_starts_and_ends_with_the_betas_of_the_linear_schedule():
    torch.testing.assert_close(Quadratic().betas[[0, -1]], Linear().betas[[0, -1]], rtol=1e-14, atol=0)


def test_noise_and_signal_at_known_times():
    # sqrt(1 - alpha_bar) of latent-diffusion's schedules, 1e-4 to 0.02 and 0.0015 to 0.0195.
    assert Quadratic().sigma(99).item() == pytest.approx(0.16823, abs=5e-6)
    assert Quadratic().alpha_bar(999).item() == pytest.approx(7.3341e-4, rel=1e-5)
    latent = schedules.create("ldm")
    assert latent == Quadratic(beta_start=0.0015, beta_end=0.0195)
    assert latent.sigma(0).item() == pytest.approx(0.03873, abs=5e-6)
    assert latent.sigma(99).item() == pytest.approx(0.4182, abs=5e-5)
    assert latent.alpha_bar(999).item() == pytest.approx(1.4230e-4, rel=1e-4)
    assert schedules.create("sd").sigma(0).item() == pytest.approx(0.02915, abs=5e-6)  # sqrt(0.00085)


def test_signal_left_by_the_continuous_one():
    # exp(-7.171405), the integral of (0.316228 + 4.155908 t)^2.
    assert QuadraticContinuous().alpha_bar(1.0).item() == pytest.approx(7.6824e-4, rel=1e-4)
    assert QuadraticContinuous().coefficients == pytest.approx((0.1, 2 * 0.316228 * 4.155908, 4.155908**2), rel=1e-6)
