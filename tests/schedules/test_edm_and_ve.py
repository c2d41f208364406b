"""Schedules of unscaled images, and the straight path."""

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from etsdm.registry import format_errors
from etsdm.schedules import EDM, VE, VPEDM, Flow, LinearContinuous

UNIT = torch.linspace(0, 1, 101, dtype=torch.float64)


def test_time_is_the_noise_level_of_edm():
    sigmas = EDMEulerScheduler(num_train_timesteps=20).sigmas[:-1].double()  # 0.002 to 80
    torch.testing.assert_close(EDM(sigma_max=80.001).sigma(sigmas), sigmas, rtol=0, atol=0)
    assert EDM().horizon == 80
    assert EDM(sigma_max=10).domain == (0, 10)


def test_ve_is_geometric():
    sigma = VE().sigma(UNIT)
    assert sigma[[0, 50, 100]].tolist() == pytest.approx([0.02, 2**0.5, 100], rel=1e-14)  # sqrt(0.02 * 100) in the middle


def test_the_vp_process_of_edm_is_the_linear_one_divided_by_alpha():
    # Karras et al. 2022, table 1: sigma = sqrt(exp(19.9 t^2/2 + 0.1 t) - 1).
    torch.testing.assert_close(VPEDM().sigma(UNIT), torch.expm1(19.9 * UNIT**2 / 2 + 0.1 * UNIT).sqrt(), rtol=1e-13, atol=0)
    torch.testing.assert_close(VPEDM().log_snr(UNIT), LinearContinuous().log_snr(UNIT), rtol=0, atol=1e-13)
    # And the ends of E-TSDM's five sub-intervals of [0, 0.1), derived from it.
    found = VPEDM().sigma(torch.linspace(0, 0.1, 6, dtype=torch.float64)).tolist()
    assert found == pytest.approx([0, 0.0774, 0.1418, 0.2067, 0.2726, 0.3402], abs=5e-5)


@pytest.mark.parametrize("schedule", [EDM(), VE(), VPEDM()], ids=str)
def test_the_image_is_not_scaled(schedule):
    assert not schedule.variance_preserving
    t = torch.linspace(0, schedule.horizon, 11, dtype=torch.float64)
    assert (schedule.alpha(t) == 1).all()
    assert (schedule.beta(t) == 0).all()
    assert (schedule.rates(t)[0] == 0).all()


def test_flow_is_a_straight_line_from_image_to_noise():
    scheduler = FlowMatchEulerDiscreteScheduler()
    sigmas = scheduler.sigmas.double()
    x0, noise = torch.tensor([[[[0.25]]]]), torch.tensor([[[[-2.0]]]])
    theirs = torch.cat([scheduler.scale_noise(x0, t[None], noise) for t in scheduler.timesteps[::100]]).double().flatten()
    alpha, sigma = Flow().alpha_sigma(sigmas[::100])
    torch.testing.assert_close(alpha * 0.25 + sigma * -2, theirs, rtol=0, atol=1e-6)  # theirs in float32
    assert not Flow().variance_preserving
    assert Flow().beta(1.0) == torch.inf


@pytest.mark.parametrize("field", ["sigma_min", "sigma_max"])
def test_ve_wants_positive_noise(field):
    with pytest.raises(ValueError, match=field):
        VE(**{field: 0})


def test_ve_wants_noise_that_grows():
    with pytest.raises(ValueError, match="sigma_min") as error:
        VE(sigma_min=5, sigma_max=5)
    assert format_errors(error.value) == [(("sigma_min",), "5 is not below sigma_max, 5; give a smaller one")]


def test_edm_wants_noise():
    with pytest.raises(ValueError, match="sigma_max"):
        EDM(sigma_max=0)
