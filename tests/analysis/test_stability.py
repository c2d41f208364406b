"""The stability test on data whose reverse chain is linear, and what may not depend on what."""

import math
import re

import pytest
import torch
from doubles import CountingDenoiser

from etsdm.analysis import stability_curve
from etsdm.randomness import generator, per_sample_normal
from etsdm.registry import condition_maps, schedules
from etsdm.samplers import DDIM, DDPM, Heun
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture

IMAGES = per_sample_normal(0, "test/images", range(5), (1, 8, 8))


def gaussian(c, condition_map="identity", schedule="linear"):
    data = GaussianMixture([[0.0]], [c], [1.0])
    return ExactDenoiser(data, schedules.create(schedule), condition_map=condition_maps.create(condition_map))


def draw(n, c=1.0):
    return c * torch.randn(n, 1, dtype=torch.float64, generator=generator(0, "test/gaussian"))


def disturbance(n, seed=0):
    """Root mean square of the disturbances themselves."""
    return per_sample_normal(seed, "stability/disturbance", range(n), (1,)).double().square().mean().sqrt()


@pytest.mark.parametrize(
    ("c", "baseline", "shared"),
    # DDIM with stride 1 from t = 100 multiplies x by a number on N(0, c^2): known values of the linear recursion.
    [(1.0, 0.9994, 0.9991), (0.5, 0.8705, 0.8694), (0.1, 0.2915, 0.2847)],
)
def test_ddim_responds_to_a_disturbance_of_normal_data_as_its_recursion_says(c, baseline, shared):
    for name, response in (("identity", baseline), ("e-tsdm", shared)):
        curve = stability_curve(gaussian(c, name), draw(16, c), 100, scales=(0.1, 0.3), sampler=DDIM(clip_x0=False))
        expected = response * curve.r * disturbance(16)
        torch.testing.assert_close(curve.rms, expected, rtol=2e-4, atol=0)


def test_the_chain_of_ddpm_contracts_by_the_product_of_its_steps():
    # x_{t-1} = (alpha_{t-1}/alpha_t) (x_t - (beta_t/sigma_t) g x_t) + noise with g = sigma/(alpha^2 c^2 + sigma^2) (paper Eq. 10); the
    # noise, which is the same with and without a disturbance, drops out.
    c, start = 0.5, 20
    schedule = schedules.create("linear")
    factor = 1.0
    for t in range(start, -1, -1):
        alpha, sigma, beta = (float(value) for value in (*schedule.alpha_sigma(t), schedule.betas[t]))
        factor *= (1 - beta / (alpha**2 * c**2 + sigma**2)) / math.sqrt(1 - beta)
    curve = stability_curve(gaussian(c), draw(16, c), start, scales=(0.2,), sampler=DDPM(clip_x0=False))
    torch.testing.assert_close(curve.rms[0], factor * 0.2 * disturbance(16), rtol=1e-6, atol=0)


def test_one_shot_is_the_slope_of_the_predicted_image():
    # E[x0 | x] = alpha c^2 x / (alpha^2 c^2 + sigma^2) for N(0, c^2).
    c, t = 0.5, 100
    alpha, sigma = (float(value) for value in schedules.create("linear").alpha_sigma(t))
    slope = alpha * c**2 / (alpha**2 * c**2 + sigma**2)
    for name in ("identity", "e-tsdm"):  # the condition at t_tilde is the same for both
        curve = stability_curve(gaussian(c, name), draw(16, c), t, reading="one-shot")
        torch.testing.assert_close(curve.rms, slope * curve.r * disturbance(16), rtol=1e-6, atol=1e-12)


def test_the_time_is_a_tenth_of_the_horizon_and_the_scales_reach_0_3_by_default():
    assert stability_curve(gaussian(1.0), draw(2), reading="one-shot").t_tilde == 100
    curve = stability_curve(gaussian(1.0, schedule="linear-continuous"), draw(2), reading="one-shot")
    assert curve.t_tilde == 0.1
    assert curve.r.tolist() == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert curve.rms[0] == 0
    assert (curve.rms.diff() > 0).all()


def test_the_standard_error_is_that_of_the_root_of_the_mean_square():
    # For a linear response k the mean square is k^2 r^2 of a chi-square average; the error of its root is half of its own over it.
    n, r = 4000, 0.2
    curve = stability_curve(gaussian(1.0), draw(n), scales=(r,), reading="one-shot")
    squares = per_sample_normal(0, "stability/disturbance", range(n), (1,)).double().square()
    expected = curve.rms * squares.std() / math.sqrt(n) / (2 * squares.mean())
    torch.testing.assert_close(curve.se, expected, rtol=1e-5, atol=0)
    assert curve.images == n


def test_the_chain_of_a_continuous_schedule_tends_to_that_of_many_steps():
    # The probability flow of N(0, 1) keeps x as it is, so its response is that of the last step from sigma(0.001): nearly 1.
    curve = stability_curve(gaussian(1.0, schedule="linear-continuous"), draw(8), scales=(0.1,), sampler=DDIM(clip_x0=False))
    torch.testing.assert_close(curve.rms[0], 0.1 * disturbance(8), rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("schedule", "start", "times"),
    [
        ("linear", 100, list(range(100, -1, -1))),
        ("linear", 0, [0]),
        ("linear", 2.5, [2.5, 1.5, 0.5]),
        ("linear-continuous", 0.1, [k / 1000 for k in range(100, 0, -1)]),
    ],
)
def test_a_chain_takes_every_step_below_its_start(schedule, start, times):
    denoiser = CountingDenoiser(schedules.create(schedule), "normal")
    for sampler in (DDPM(), DDIM(steps=3)):
        denoiser.times.clear()
        stability_curve(denoiser, draw(2), start, scales=(0.1,), sampler=sampler)
        assert denoiser.times[: len(times)] == pytest.approx(times)
        assert len(denoiser.times) == 2 * len(times)  # undisturbed and disturbed


def test_the_chain_may_be_that_of_a_solver():
    # The probability flow of N(0, 1) keeps x as it is, up to the level of the last step.
    curve = stability_curve(gaussian(1.0), draw(8), 50, scales=(0.1,), sampler=Heun())
    torch.testing.assert_close(curve.rms[0], 0.1 * disturbance(8), rtol=2e-3, atol=0)


def test_a_network_gives_the_same_in_any_batches(tiny_denoiser):
    denoiser = tiny_denoiser(condition_map="e-tsdm")
    together = stability_curve(denoiser, IMAGES, 3, scales=(0.0, 0.2))
    parts = stability_curve(denoiser, iter(IMAGES.split(2)), 3, scales=(0.0, 0.2), batch_size=1)
    torch.testing.assert_close(parts.rms, together.rms, rtol=1e-4, atol=1e-6)
    assert together.rms[0] == 0 < together.rms[1]
    other = stability_curve(denoiser, IMAGES, 3, scales=(0.2,), seed=1)
    assert other.rms[0] != together.rms[1]


def test_labels_reach_the_network(tiny_denoiser):
    denoiser, y = tiny_denoiser(backbone={"num_classes": 10}), torch.arange(5)
    one, other = (stability_curve(denoiser, IMAGES, 2, scales=(0.2,), y=labels).rms for labels in (y, y.flip(0)))
    assert not torch.equal(one, other)
    named = stability_curve(denoiser, [(IMAGES, {"y": y})], 2, scales=(0.2,)).rms
    torch.testing.assert_close(named, one, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "chains"}, "reading: 'chains' is no reading; did you mean 'chain'?"),
        ({"scales": ()}, "scales: no scale is given; give one or more"),
        ({"t_tilde": 1000}, "t_tilde: 1000 is outside the times of schedule 'linear'; give t in [0, 999]"),
        ({"images": IMAGES[:0]}, "images: none are given; give one or more"),
    ],
    ids=["reading", "scales", "time", "images"],
)
def test_what_cannot_be_tested_is_refused(options, message):
    arguments = {"images": draw(2), **options}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        stability_curve(ExactDenoiser(mixture("normal"), schedules.create("linear")), **arguments)
