import warnings

import pytest
import torch

from etsdm.denoisers.wrappers import ClassifierFreeGuidance, ZeroSNRStart
from etsdm.randomness import per_sample_normal
from etsdm.samplers import DDIM, DDPM, Heun
from etsdm.schedules import Linear, ZeroTerminal
from etsdm.targets import X0, Eps, V
from etsdm.theory import ExactDenoiser, mixture

SCHEDULE = ZeroTerminal()
M2 = mixture("m2")
NOISE = per_sample_normal(0, "test/noise", range(4), (2,)).double()
TIMES = torch.tensor([999.0, 20.0, 999.0, 998.0], dtype=torch.float64)


def exact(target, **parts):
    return ExactDenoiser(M2, SCHEDULE, target=target, **parts)


def two_denoisers(target=X0()):  # noqa: B008
    return ZeroSNRStart(exact(Eps(allow_eps_at_zero_snr=True)), exact(target))


@pytest.mark.parametrize("target", [X0(), V()], ids=str)
@pytest.mark.parametrize("sampler", [DDIM(steps=7, grid="trailing"), DDPM(steps=7), Heun(steps=7)], ids=lambda s: s.type_name)
def test_noise_prediction_starts_where_there_is_no_signal(sampler, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = list(sampler.trajectory(two_denoisers(target), NOISE))
    assert steps[0].t == 999
    *_, expected = sampler.trajectory(exact(V()), NOISE)
    torch.testing.assert_close(steps[-1].x, expected.x, rtol=1e-8, atol=1e-8)


def test_where_there_is_no_signal_the_image_is_the_mean_of_all():
    # E[x0 | x] = E[x0] when x is pure noise.
    found = two_denoisers().predict(NOISE, 999.0)
    mean = (M2.weights[:, None] * M2.means).sum(0)
    torch.testing.assert_close(found.x0, mean.expand(4, 2))
    torch.testing.assert_close(found.eps, NOISE)


def test_each_image_is_asked_of_the_denoiser_of_its_time():
    found, expected = two_denoisers().predict(NOISE, TIMES), exact(V()).predict(NOISE, TIMES)
    for space in ("x", "output", "x0", "eps", "v"):
        torch.testing.assert_close(getattr(found, space), getattr(expected, space), rtol=1e-9, atol=1e-9)
    told = torch.tensor([999.0, 30.0, 999.0, 900.0], dtype=torch.float64)
    for told_instead in (None, told):
        assert torch.equal(two_denoisers().output(NOISE, TIMES, condition_t=told_instead)[[0, 2]], expected.output[[0, 2]])
    by_hand = exact(Eps(allow_eps_at_zero_snr=True)).output(NOISE[1:2], 20.0, condition_t=told[1:2])
    alpha, sigma = SCHEDULE.alpha_sigma(20.0)
    v = alpha * by_hand - sigma * (NOISE[1:2] - sigma * by_hand) / alpha
    torch.testing.assert_close(two_denoisers().output(NOISE, TIMES, condition_t=told)[1:2], v)


def test_labels_go_with_their_images(tiny_denoiser):
    denoiser = tiny_denoiser(schedule="zero-terminal-snr", target="v", backbone={"num_classes": 4, "out_channels": 2})
    both = ZeroSNRStart(denoiser, denoiser)
    x, y = per_sample_normal(0, "test/x", range(4), (1, 8, 8)), torch.tensor([3, 0, 1, 2])
    found, expected = both.predict(x, TIMES, y=y), denoiser.predict(x, TIMES, y=y)
    torch.testing.assert_close(found.x0, expected.x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.variance_logit, expected.variance_logit, rtol=1e-4, atol=1e-4)
    guided, expected = (ClassifierFreeGuidance(inside, 3.0, null=0).predict(x, TIMES, y=y) for inside in (both, denoiser))
    torch.testing.assert_close(guided.x0, expected.x0, rtol=1e-4, atol=1e-4)


def test_a_first_denoiser_that_knows_no_image_there_is_refused():
    with pytest.raises(ValueError, match=r"^first: .* 'eps' .* x0 .* 0; give one of x0 or v$"):
        ZeroSNRStart(exact(V()), exact(Eps(allow_eps_at_zero_snr=True)))
    with pytest.raises(ValueError, match=r"^first: its schedule 'linear' is not that of the denoiser, 'zero-terminal-snr'; give"):
        ZeroSNRStart(exact(V()), ExactDenoiser(M2, Linear(), target=V()))
