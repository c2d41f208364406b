import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.losses import MSE, P2, Constant, MinSNR, Weighting
from etsdm.randomness import per_sample_normal
from etsdm.registry import weightings
from etsdm.schedules import VPEDM, Linear, LinearContinuous, ZeroTerminal
from etsdm.targets import EDM, X0, Eps, Flow, Score, V

# At t = 0 linear-continuous has no noise, at 999 zero-terminal has no signal.
NO_NOISE, NO_SIGNAL = (LinearContinuous(), 0.0), (ZeroTerminal(), 999.0)
T = torch.tensor([0.0, 50.0, 300.0, 700.0, 999.0], dtype=torch.float64)
LEVELS = Linear().alpha_sigma(T)
SNR = Linear().alpha_bar(T) / (1 - Linear().alpha_bar(T))
every_weighting = pytest.mark.parametrize("weighting", [MinSNR(), MinSNR(gamma=0.1), P2(), P2(gamma=0.5, k=3)], ids=repr)


class SignalToNoise(Weighting):
    """The signal-to-noise ratio."""

    def __call__(self, alpha, sigma, space):
        return (alpha / sigma).square()


def at(weighting, end, space):
    schedule, t = end
    return weighting(*schedule.alpha_sigma(torch.tensor([t], dtype=torch.float64)), space).item()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_the_registered_weightings_are_those_tested_here():
    assert list(weightings) == ["constant", "min-snr", "p2"]


def test_the_constant_weighting_is_one_in_every_space():
    for space in (Eps(), EDM()):
        weights = Constant()(*Linear().alpha_sigma(torch.tensor([0, 500, 999])), space)
        assert weights.tolist() == [1, 1, 1]
        assert weights.dtype == torch.float64


def test_a_loss_is_multiplied_by_its_weight(tiny_denoiser):
    denoiser, t = tiny_denoiser(), torch.tensor([0.0, 300.0, 999.0], dtype=torch.float64)
    x0, eps = per_sample_normal(0, "test/x0", range(3), (1, 8, 8)), per_sample_normal(0, "test/eps", range(3), (1, 8, 8))
    plain, weighted = (MSE(weighting=weighting).per_image(denoiser, x0, t, eps) for weighting in (Constant(), SignalToNoise()))
    # alpha_bar / (1 - alpha_bar) with guided-diffusion's alpha_bar: 0.9999 at index 0, 4.035829765376e-05 at 999.
    ratio = weighted / plain
    torch.testing.assert_close(
        ratio[[0, 2]], torch.tensor([0.9999 / 1e-4, 4.035829765376e-05 / (1 - 4.035829765376e-05)]), rtol=1e-5, atol=0
    )


@every_weighting
@pytest.mark.parametrize("schedule", [Linear(), VPEDM()], ids=repr)  # the second does not preserve variance
def test_a_weighting_is_the_same_training_in_every_space(tiny_denoiser, weighting, schedule):
    t = torch.tensor([0.001, 0.1, 0.9], dtype=torch.float64) * schedule.horizon
    x0, eps = (per_sample_normal(0, name, range(3), (1, 8, 8)).double() for name in ("test/x0", "test/eps"))
    denoiser = tiny_denoiser(schedule=schedule, target="v").double()
    # The squared error in a space has the weight of that space; all losses are equal.
    spaces = (V(), Eps(), X0(), Score(), Score(scaled=True), Flow(), EDM(sigma_data=0.7))
    losses = [MSE(space=space, weighting=weighting).per_image(denoiser, x0, t, eps) for space in spaces]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-10, atol=0)


@given(st.floats(0.01, 100))
def test_min_snr_has_the_weights_of_its_article(gamma):
    # Hang et al. 2023, section 3.4: min(SNR, gamma) for x0, divided by SNR for eps and by SNR + 1 for v.
    least = SNR.clamp(max=gamma)
    for space, expected in ((X0(), least), (Eps(), least / SNR), (V(), least / (SNR + 1)), (Score(scaled=True), least / SNR)):
        close(MinSNR(gamma=gamma)(*LEVELS, space), expected)


def test_min_snr_has_the_weights_of_diffusers_examples():
    # examples/text_to_image/train_text_to_image.py: min(snr, gamma), over snr for epsilon, over snr + 1 for v_prediction.
    snr = compute_snr(DDPMScheduler(), T.long()).double()
    least = torch.stack([snr, torch.full_like(snr, 5)], dim=1).min(dim=1)[0]
    for space, expected in ((Eps(), least / snr), (V(), least / (snr + 1))):
        torch.testing.assert_close(MinSNR()(*LEVELS, space), expected, rtol=2e-3, atol=0)  # there in single precision


def test_min_snr_has_its_limits_where_there_is_no_noise_or_no_signal():
    assert [at(MinSNR(), NO_NOISE, space) for space in (X0(), Eps(), V())] == [5, 0, 0]
    # min(SNR, gamma) / SNR is 0/0 without signal; it tends to 1.
    assert [at(MinSNR(), NO_SIGNAL, space) for space in (X0(), Eps(), V())] == [0, 1, 0]


@given(st.floats(0, 3), st.floats(0.1, 10))
def test_p2_has_the_weights_of_its_article(gamma, k):
    # Choi et al. 2022, Eq. 8: 1 / (k + SNR)^gamma for eps. An error of x0 is sqrt(SNR) of eps, one of v alpha of eps.
    expected = (k + SNR) ** -gamma
    close(P2(gamma=gamma, k=k)(*LEVELS, Eps()), expected)
    close(P2(gamma=gamma, k=k)(*LEVELS, X0()), SNR * expected)
    close(P2(gamma=gamma, k=k)(*LEVELS, V()), SNR / (1 + SNR) * expected)


def test_p2_with_the_articles_values_is_the_noise_variance():
    close(P2()(*LEVELS, Eps()), 1 - Linear().alpha_bar(T))  # 1 / (1 + SNR) = sigma^2


@pytest.mark.parametrize(("gamma", "of_x0"), [(0.5, float("inf")), (1, 1), (2, 0)])
def test_p2_has_its_limits_where_there_is_no_noise_or_no_signal(gamma, of_x0):
    weighting = P2(gamma=gamma, k=4)
    # SNR^(1 - gamma) for x0 as SNR grows; k^-gamma for eps without signal.
    assert [at(weighting, NO_NOISE, space) for space in (X0(), Eps(), V())] == [of_x0, 0, 0]
    assert [at(weighting, NO_SIGNAL, space) for space in (X0(), Eps(), V())] == [0, 4**-gamma, 0]


def test_no_power_is_no_weighting():
    assert P2(gamma=0)(*LEVELS, Eps()).tolist() == [1] * 5


@every_weighting
def test_weights_are_float64_in_the_shape_of_the_times(weighting):
    for space in (Eps(), X0(), EDM()):
        weights = weighting(*Linear().alpha_sigma(torch.tensor([3, 4])), space)
        assert weights.shape == (2,)
        assert weights.dtype == torch.float64


@pytest.mark.parametrize(("name", "field", "value"), [("min-snr", "gamma", 0), ("p2", "gamma", -1), ("p2", "k", 0)])
def test_a_value_that_is_no_weighting_is_refused(name, field, value):
    with pytest.raises(ValidationError, match=field):
        weightings[name](**{field: value})
