"""Targets that speak of the noise alone: eps and score."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from etsdm.randomness import generator
from etsdm.registry import targets
from etsdm.schedules import Linear, ZeroTerminal
from etsdm.targets import EDM, X0, Eps, Flow, Score, V

every_noise_target = pytest.mark.parametrize("target", [Eps(), Score(), Score(scaled=True)], ids=repr)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_only_noise_and_score_need_a_signal():
    assert [name for name in targets if targets[name].needs_signal] == ["eps", "score"]


@every_noise_target
def test_a_call_without_signal_is_refused_with_the_mend(target):
    with pytest.raises(ValueError, match=r"alpha = 0; use v, or set allow_eps_at_zero_snr$") as error:
        target.coefficients(numbers(0.5, 0.0), numbers(0.8, 1.0))
    assert str(error.value).startswith(f"target: '{target.type_name}' ")
    assert "\n" not in str(error.value)


@every_noise_target
def test_the_last_time_of_a_zero_terminal_schedule_is_refused_and_the_one_before_is_not(target):
    schedule = ZeroTerminal()
    assert all(value.isfinite() for value in target.coefficients(*schedule.alpha_sigma(998)))
    with pytest.raises(ValueError, match="alpha = 0"):
        target.coefficients(*schedule.alpha_sigma(999))


@pytest.mark.parametrize("target", [Eps(allow_eps_at_zero_snr=True), Score(allow_eps_at_zero_snr=True)], ids=repr)
def test_where_it_is_allowed_the_noise_is_there_and_the_image_is_not_finite(target):
    c = target.coefficients(numbers(0), numbers(1))
    output = target.training_target(numbers(0.3), numbers(0.7), numbers(0), numbers(1))
    assert (c.e_skip * 0.7 + c.e_out * output).item() == pytest.approx(0.7)
    assert math.isinf(c.c_skip.item())
    assert math.isinf(c.c_out.item())


@pytest.mark.parametrize("target", [V(), X0(), EDM(), Flow()], ids=repr)
def test_other_targets_take_a_call_without_signal(target):
    assert all(value.isfinite() for value in target.coefficients(numbers(0), numbers(1)))


def test_a_compiled_call_does_not_look_at_alpha():
    # To look would break the graph; the coefficients are those where it is allowed.
    compiled = torch.compile(Eps().coefficients, fullgraph=True, backend="eager")
    for found, known in zip(
        compiled(numbers(0), numbers(1)), Eps(allow_eps_at_zero_snr=True).coefficients(numbers(0), numbers(1)), strict=True
    ):
        assert torch.equal(found, known)


def test_the_score_is_the_gradient_of_the_log_density():
    alpha, sigma = numbers(0.8), numbers(0.6)
    x0, eps = numbers(0.4), numbers(-1.1)
    x = (alpha * x0 + sigma * eps).requires_grad_()
    density = torch.distributions.Normal(alpha * x0, sigma)
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    # Of q(x_t | x0), whose score is what an ideal network is trained towards (Vincent 2011).
    torch.testing.assert_close(Score().value(x0, eps, alpha, sigma), gradient)
    torch.testing.assert_close(Score(scaled=True).value(x0, eps, alpha, sigma), sigma * gradient)


def test_the_known_coefficients_of_score_networks():
    alpha, sigma = numbers(1.0), numbers(3.0)
    found = [value.item() for value in Score().coefficients(alpha, sigma)]
    assert found == pytest.approx([1, 1, 9, 0, -3])  # x0 = x + sigma^2 s, eps = -sigma s
    # Karras et al. 2022, table 1, column VE: c_skip = 1, c_out = sigma, c_in = 1.
    assert [value.item() for value in Score(scaled=True).coefficients(alpha, sigma)][:3] == pytest.approx([1, 1, 3])


def test_the_score_of_a_clean_image_has_no_weight_in_the_image():
    # x0 = x + sigma^2 s is x at sigma = 0, where -1/sigma, and with it the general solution of the system, is infinite.
    assert [value.item() for value in Score().coefficients(numbers(1), numbers(0))] == [1, 1, 0, 0, 0]


def test_a_scaled_input_is_the_preconditioning_of_vp_networks():
    # Karras et al. 2022, table 1, column VP: c_skip = 1, c_out = -sigma, c_in = 1 / sqrt(sigma^2 + 1).
    found = [value.item() for value in Eps(scale_input=True).coefficients(numbers(1), numbers(2))]
    assert found[:3] == pytest.approx([1 / 5**0.5, 1, -2])
    assert Eps().coefficients(numbers(1), numbers(2)).c_in.item() == 1


def test_diffusers_has_the_same_image_from_the_noise():
    peer = DDPMScheduler(prediction_type="epsilon", clip_sample=False)
    x, output = torch.randn(2, 3, 1, 4, 4, generator=generator(0, "test/noise"))
    for k, t in enumerate((0, 50, 500)):
        alpha, sigma = Linear().alpha_sigma(t)
        c = Eps().coefficients(alpha, sigma)
        found = c.c_skip.float() * x[k] + c.c_out.float() * output[k]
        # In single precision 1 - alpha_bar of t = 0 has three digits.
        torch.testing.assert_close(found, peer.step(output[k], t, x[k]).pred_original_sample, rtol=1e-4, atol=1e-5)
