"""Inversion on data whose probability flow is known: in one dimension it is the map that keeps every image's quantile."""

import math
from itertools import pairwise

import pytest
import torch
from doubles import CountingDenoiser
from scipy.optimize import brentq
from scipy.stats import norm

from etsdm.denoisers.wrappers import ClassifierFreeGuidance, FixedLabels
from etsdm.errors import PartError
from etsdm.randomness import per_sample_normal
from etsdm.registry import samplers
from etsdm.samplers import DDIM, EDMStochastic, Heun
from etsdm.sampling import img2img, invert
from etsdm.schedules import EDM, Flow, Linear, LinearContinuous, ZeroTerminal, ZeroTerminalContinuous
from etsdm.targets import Eps, V
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture

M1 = mixture("m1")
X = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
EARLY, LATE = 0.05, 0.8
# Orders of accuracy, all of them measured on a grid of equal distances in log-SNR.
ORDERS = {"ddim": 1, "heun": 2, "dpm2": 2, "plms": 2, "dpm-solver-1": 1, "dpm-solver++-2m": 2}


def cumulative(x, alpha, sigma):
    spreads = (alpha**2 * M1.stds**2 + sigma**2).sqrt().tolist()
    parts = zip(M1.weights.tolist(), M1.means.flatten().tolist(), spreads, strict=True)
    return sum(w * norm.cdf(x, alpha * mean, spread) for w, mean, spread in parts)


def transported(x, schedule, early, late):
    """The same quantiles of the noisier density."""
    before, after = ([level.item() for level in schedule.alpha_sigma(t)] for t in (early, late))
    quantiles = [cumulative(v, *before) for v in x.flatten().tolist()]
    found = [brentq(lambda z, q=q: cumulative(z, *after) - q, -50, 50, xtol=1e-14) for q in quantiles]
    return torch.tensor(found, dtype=torch.float64)[:, None]


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_inversion_finds_the_noise_at_the_solvers_order_and_loses_no_more_on_the_way_back(name, order):
    denoiser, exact = ExactDenoiser(M1, LinearContinuous()), transported(X, LinearContinuous(), EARLY, LATE)
    errors, losses = [], []
    for steps in (20, 40, 80):
        sampler = samplers.create(name, steps=steps, t_end=EARLY, grid="log-snr")
        noise = invert(denoiser, X, sampler=sampler, start=LATE)
        *_, back = sampler.trajectory(denoiser, noise, start=LATE)
        errors.append((noise - exact).abs().max().item())
        losses.append((back.x - X).abs().max().item())
    for error, next_error in pairwise(errors):
        assert math.log2(error / next_error) == pytest.approx(order, abs=0.25)
    for loss, next_loss in pairwise(losses):
        assert math.log2(loss / next_loss) > order - 0.25


@pytest.mark.parametrize("schedule", [Linear(), ZeroTerminalContinuous(), EDM(), Flow()], ids=lambda s: s.type_name)
def test_clean_images_come_back(schedule):
    denoiser = ExactDenoiser(M1, schedule, target=V())
    losses = []
    for sampler in (Heun(steps=60), Heun(steps=120)):
        *_, back = sampler.trajectory(denoiser, invert(denoiser, X, sampler=sampler))
        losses.append((back.x - X).abs().max().item())
    assert losses[1] < 2e-3
    assert losses[0] > 3.5 * losses[1]


@pytest.mark.parametrize("schedule", [Linear(), ZeroTerminal(), EDM(), Flow()], ids=lambda s: s.type_name)
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_any_number_of_steps_is_finite(schedule, name, steps):
    denoiser = ExactDenoiser(M1, schedule, target=V())
    grid = {"grid": "linspace"} if name in ("ddim", "plms") else {}
    assert invert(denoiser, X, sampler=samplers.create(name, steps=steps, **grid)).isfinite().all()


def test_gaussian_images_are_encoded_by_a_product():
    # A DDIM step from s to t multiplies x by a_t (1 - s_s g_s) / a_s + s_t g_s, g = s / (a^2 c^2 + s^2); the first one, from the
    # clean image, by a_t (1 + s_t g_t).
    c, schedule = 0.5, Linear()
    levels = [tuple(level.item() for level in schedule.alpha_sigma(t)) for t in (0.0, 333.0, 666.0, 999.0)]
    slopes = [sigma / (alpha**2 * c**2 + sigma**2) for alpha, sigma in levels]
    factor = levels[0][0] * (1 + levels[0][1] * slopes[0])
    for (alpha_s, sigma_s), g, (alpha, sigma) in zip(levels, slopes, levels[1:], strict=False):
        factor *= alpha * (1 - sigma_s * g) / alpha_s + sigma * g
    denoiser = ExactDenoiser(GaussianMixture([[0.0]], [c], [1.0]), schedule)
    found = invert(denoiser, X, sampler=DDIM(steps=4, grid="linspace"))
    torch.testing.assert_close(found, factor * X, rtol=1e-12, atol=1e-12)


def test_the_number_of_calls_is_that_of_sampling():
    for schedule, calls in ((Linear(), 7), (ZeroTerminal(), 7)):
        denoiser = CountingDenoiser(schedule, target=V())
        invert(denoiser, X, sampler=DDIM(steps=7, grid="linspace"))
        assert len(denoiser.times) == calls


def test_without_terminal_signal_noise_prediction_inverts_to_the_step_before():
    denoiser = ExactDenoiser(M1, ZeroTerminal(), target=Eps(allow_eps_at_zero_snr=True))
    with pytest.warns(UserWarning, match="sampling starts from t = 998$"):
        found = invert(denoiser, X, sampler=Heun(steps=80))
    exact = transported(X, ZeroTerminal(), 0.0, 998.0)
    assert (found - exact).abs().max() < 0.05


@pytest.mark.parametrize(("field", "value"), [("clip_x0", True), ("dynamic_threshold", 0.99)])
@pytest.mark.parametrize("name", ["heun", "ddim", "dpm-solver-3", "unipc"])
def test_a_clipped_x0_is_refused(name, field, value):
    sampler = samplers.create(name, **{field: value})
    with pytest.raises(PartError, match=rf"^sampler\.{field}: found {value}, .*; leave it out here and in sampling \((false|null)\)$"):
        invert(ExactDenoiser(M1, Linear()), X, sampler=sampler)


@pytest.mark.parametrize("schedule", [Linear(), LinearContinuous(), EDM(), Flow(), ZeroTerminal()], ids=lambda s: s.type_name)
@pytest.mark.parametrize("name", [*ORDERS, "lms", "euler", "unipc", "dpm-solver-3", "dpm-solver-3m", "dpm-solver++-2s", "edm-stochastic"])
def test_a_solver_is_refused_where_it_loses_its_stability_and_converges_elsewhere(name, schedule):
    denoiser = ExactDenoiser(M1, schedule, target=V())
    fields = {"churn": 0} if name == "edm-stochastic" else {}
    grid = {"grid": "karras"} if schedule.type_name == "edm" else {}
    for steps, largest in ((10, 3), (100, 0.4), (400, 0.11)):
        sampler = samplers.create(name, steps=steps, **fields, **grid)
        if steps == 10 and name == "lms":
            with pytest.raises(PartError, match=r"^sampler: 'lms' has lost its stability .*; give more than 10 steps, or a .* heun$"):
                invert(denoiser, X, sampler=sampler)
            continue
        noise = invert(denoiser, X, sampler=sampler)
        *_, back = sampler.trajectory(denoiser, noise)
        assert (back.x - X).abs().max() < largest


def test_clipping_that_follows_the_denoiser_is_left_out_on_the_way_to_noise(tiny_denoiser):
    denoiser = tiny_denoiser(target="v")
    images = 3 * per_sample_normal(0, "test/x", range(2), (1, 8, 8))
    clipping, free = (invert(denoiser, images, sampler=DDIM(steps=3, clip_x0=clip)) for clip in (None, False))
    assert clipping.dtype == torch.float32
    assert torch.equal(clipping, free)


def test_labels_and_wrappers_take_part(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", backbone={"num_classes": 3})
    images, y = per_sample_normal(0, "test/x", range(2), (1, 8, 8)), torch.tensor([0, 1])
    guided = ClassifierFreeGuidance(denoiser, 2.0)
    given, bound = invert(guided, images, steps=3, y=y), invert(FixedLabels(guided, y), images, steps=3)
    assert torch.equal(given, bound)
    assert (invert(denoiser, images, steps=3, y=y) - given).abs().max() > 1e-3


@pytest.mark.parametrize("sampler", ["ddpm", "euler-ancestral", "edm-stochastic", "analytic", DDIM(eta=0.5)], ids=str)
def test_a_sampler_that_adds_noise_is_refused(sampler):
    name = sampler if isinstance(sampler, str) else sampler.type_name
    with pytest.raises(ValueError, match=f"^sampler: {name!r} .*; give a deterministic one, or eta 0$"):
        invert(ExactDenoiser(M1, Linear()), X, sampler=sampler, steps=5)


def test_without_churn_the_stochastic_sampler_is_inverted_like_heuns():
    denoiser = ExactDenoiser(M1, LinearContinuous())
    assert torch.equal(invert(denoiser, X, sampler=EDMStochastic(steps=9, churn=0)), invert(denoiser, X, sampler=Heun(steps=9)))
    with pytest.raises(ValueError, match="'edm-stochastic' adds noise"):
        invert(denoiser, X, sampler=EDMStochastic(steps=9))


def test_images_are_brought_to_where_the_denoiser_is(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={"num_classes": 10}).to("meta")
    images, y = per_sample_normal(0, "test/x", range(2), (1, 8, 8)), torch.tensor([3, 7])
    assert invert(denoiser, images, steps=2, y=y).device.type == "meta"
    assert img2img(denoiser, images, start=300, steps=2, y=y).device.type == "meta"


@pytest.mark.parametrize("name", ["dpm-solver-2m", "dpm-solver++-3m", "unipc", "dpm-solver-3", "ddim", "heun"])
def test_a_path_that_is_denoised_to_zero_is_gone_back_along(name):
    denoiser = ExactDenoiser(M1, LinearContinuous(), target=V())
    errors = []
    for steps in (20, 40):
        sampler = samplers.create(name, steps=steps, grid="log-snr", t_end=0.002, denoise_to_zero=True)
        *_, back = sampler.trajectory(denoiser, invert(denoiser, X, sampler=sampler))
        errors.append((back.x - X).abs().max().item())
    assert errors[1] < 0.7 * errors[0] < 0.35
