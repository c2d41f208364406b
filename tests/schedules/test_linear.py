import pytest
import torch

from etsdm.schedules import Linear


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
