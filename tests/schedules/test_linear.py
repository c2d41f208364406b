import pytest
import torch

from etsdm.registry import format_errors
from etsdm.schedules import Linear, LinearContinuous, Quadratic


def test_betas_are_equally_spaced():
    betas = Linear(timesteps=5, beta_start=0.1, beta_end=0.5).betas
    torch.testing.assert_close(betas, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64))


def test_the_first_level_of_noise_is_one_percent():
    assert Linear().sigma(0).item() == pytest.approx(0.01, rel=1e-13)  # sqrt(beta_start)


def test_noise_and_signal_at_known_times():
    assert Linear().sigma(99).item() == pytest.approx(0.32091, abs=5e-6)  # sqrt(1 - 0.897018145675), guided-diffusion
    assert Linear().alpha_bar(999).item() == pytest.approx(4.0358e-5, rel=1e-5)


@pytest.mark.parametrize("field", ["beta_start", "beta_end"])
@pytest.mark.parametrize("value", [0, 1, -0.1])
def test_a_beta_outside_the_open_unit_interval_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Linear(**{field: value})


def test_betas_of_the_paper_start_one_step_before_the_first_timestep():
    # beta_t = (t/T)(0.5 - 0.1) + 0.1, t = 1..4.
    betas = Linear(timesteps=4, beta_start=0.1, beta_end=0.5, grid="paper").betas
    torch.testing.assert_close(betas, torch.tensor([0.2, 0.3, 0.4, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("kind", [Linear, Quadratic])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta_start": 0}, "found 0, with which timestep 0 of grid linspace has no noise; give a value above 0, or grid: paper"),
        ({"grid": "linspace-from-zero"}, "found 0.0001; grid linspace-from-zero starts at 0, give 0 or grid: linspace"),
        ({"beta_start": -0.1}, "found -0.1; give 0 or more"),
        ({"beta_start": 1}, "found 1; give a value below 1"),
    ],
)
def test_a_wrong_first_beta_is_refused_with_the_mend(kind, fields, message):
    with pytest.raises(ValueError, match="beta_start") as error:
        kind(**fields)
    assert [(problem.field, problem.message) for problem in format_errors(error.value)] == [("beta_start", message)]


def test_signal_left_by_the_continuous_one():
    assert LinearContinuous().alpha_bar(1.0).item() == pytest.approx(4.3186e-5, rel=1e-5)  # exp(-10.05)


@pytest.mark.parametrize("fields", [{"beta_min": -0.1}, {"beta_max": 0}])
def test_a_negative_rate_of_noise_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        LinearContinuous(**fields)
