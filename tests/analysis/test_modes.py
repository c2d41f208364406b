"""The readings of K(t, t') on data whose optimum is known, on small networks, and what each costs in forward passes."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import etsdm
from etsdm.analysis import MODES, lipschitz_curve
from etsdm.data import Digits
from etsdm.randomness import generator, per_sample_normal, seeded_global_rng
from etsdm.registry import condition_maps, schedules
from etsdm.theory import ExactDenoiser, mixture
from etsdm.training import Trainer
from etsdm.training.config import Training

IMAGES = per_sample_normal(0, "test/images", range(6), (1, 8, 8))
JUMPS = [19, 39, 59, 79, 99]

MEANS, STDS, WEIGHTS = np.array([-1.5, 0.2, 1.4]), np.array([0.3, 0.5, 0.4]), np.array([0.3, 0.5, 0.2])
ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def best_noise(x, i):
    """eps*(x, i) of mixture m1 and the density of x there, on the linear schedule, from the formulas alone."""
    variance = ALPHA_BAR[i] * STDS**2 + 1 - ALPHA_BAR[i]
    offset = x[..., None] - np.sqrt(ALPHA_BAR[i]) * MEANS
    log_joint = np.log(WEIGHTS) - offset**2 / 2 / variance - np.log(2 * np.pi * variance) / 2
    joint = np.exp(log_joint - log_joint.max(-1, keepdims=True))
    return np.sqrt(1 - ALPHA_BAR[i]) * (joint * offset / variance).sum(-1) / joint.sum(-1), np.exp(log_joint).sum(-1)


LINE = np.linspace(-9, 9, 10_001)


def shared_x(i, groups=None):
    """E |eps*(x_i, c) - eps*(x_i, c')| by the trapezoidal rule, for conditions c and c' that groups of timesteps share."""
    here, there = groups or ([i], [i + 1])
    first, second = (np.mean([best_noise(LINE, u)[0] for u in times], axis=0) for times in (here, there))
    return np.trapezoid(best_noise(LINE, i)[1] * np.abs(first - second), LINE)


def coupled(i):
    """E |eps*(x_i, i) - eps*(x_{i+1}, i+1)| over clean data and noise: sums over the components and a plane of normals."""
    grid = np.linspace(-7, 7, 401)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    total = 0.0
    for mean, std, weight in zip(MEANS, STDS, WEIGHTS, strict=True):
        x0, eps = (mean + std * grid)[:, None], grid[None]
        at = [best_noise(np.sqrt(ALPHA_BAR[u]) * x0 + np.sqrt(1 - ALPHA_BAR[u]) * eps, u)[0] for u in (i, i + 1)]
        total += weight * density @ np.abs(at[1] - at[0]) @ density
    return total


def norm(i):
    """| E|eps*(x_i, i)| - E|eps*(x_{i+1}, i+1)| | by the trapezoidal rule."""
    values = [best_noise(LINE, u) for u in (i, i + 1)]
    return abs(np.diff([np.trapezoid(density * np.abs(eps), LINE) for eps, density in values])[0])


@pytest.fixture(scope="module")
def samples():
    return mixture("m1").sample(20_000, generator(1, "test/m1"))


@pytest.mark.parametrize(
    ("mode", "integral", "published"),
    [
        # Times 1000, from 20,000 samples: the published list is good to 2 per cent.
        ("shared-x", shared_x, {0: 6.93, 1: 5.94, 5: 4.90, 10: 4.53, 20: 4.08, 50: 2.70, 99: 2.36, 200: 2.41, 500: 0.51, 900: 0.01}),
        ("coupled", coupled, {0: 6.97, 50: 3.54}),
        ("norm", norm, {0: 6.95}),
    ],
)
def test_a_mixture_has_the_integrals_over_its_density(samples, mode, integral, published):
    denoiser = ExactDenoiser(mixture("m1"), schedules.create("linear"))
    curve = lipschitz_curve(denoiser, samples, [*published, 300], mode=mode, batch_size=4000).per_unit_time()
    for t, mean, se in zip(curve.t.int().tolist(), curve.mean.tolist(), curve.se.tolist(), strict=True):
        expected = 1000 * integral(t)
        assert abs(mean - expected) < 4 * se
        assert se < 0.03 * expected
        assert expected == pytest.approx(published.get(t, expected), rel=0.02, abs=0.005)


def test_shared_conditions_of_a_mixture_jump_by_the_difference_of_averages(samples):
    # On both sides of an edge the output is the mean of eps* over a sub-interval, at the same x (paper Eq. A15, uniform weights).
    denoiser = ExactDenoiser(mixture("m1"), schedules.create("linear"), condition_map=condition_maps.create("e-tsdm"))
    curve = lipschitz_curve(denoiser, samples[:4000], [0, 1, 18, *JUMPS, 20, 50], batch_size=4000).per_unit_time()
    published = dict(zip(JUMPS, (82.7, 63.7, 47.8, 44.6, 24.1), strict=True))
    for t, mean, se in zip(curve.t.int().tolist(), curve.mean.tolist(), curve.se.tolist(), strict=True):
        if t not in JUMPS:
            assert (mean, se) == (0, 0)
            continue
        groups = range(t - 19, t + 1), range(t + 1, t + 21) if t < 99 else [100]
        expected = 1000 * shared_x(t, groups)
        assert abs(mean - expected) < 4 * se
        assert expected == pytest.approx(published[t], rel=0.02)


def noisy(schedule, t, seed=0):
    noise = per_sample_normal(seed, "lipschitz/noise", range(6), (1, 8, 8)).double()
    return schedule.alpha(t) * IMAGES.double() + schedule.sigma(t) * noise


def test_each_mode_has_its_formula_image_by_image(normal_data):
    # eps* = sigma x for N(0, I).
    schedule, t, dt = schedules.create("linear"), 40, 2
    here, there = (noisy(schedule, time) for time in (t, t + dt))
    sigma, later = schedule.sigma(t), schedule.sigma(t + dt)
    expected = {
        "shared-x": (later - sigma) / dt * here.flatten(1).norm(dim=1),
        "coupled": (later * there - sigma * here).flatten(1).norm(dim=1) / dt,
        "norm": (later * there.flatten(1).norm(dim=1) - sigma * here.flatten(1).norm(dim=1)) / dt,
    }
    for mode, values in expected.items():
        curve = lipschitz_curve(normal_data(), IMAGES.double(), [t], mode=mode, dt=dt, keep_values=True)
        torch.testing.assert_close(curve.values[0], values, rtol=1e-6, atol=0)
        torch.testing.assert_close(curve.mean[0], values.mean().abs(), rtol=1e-6, atol=0)
        torch.testing.assert_close(curve.se[0], values.std() / math.sqrt(6), rtol=1e-6, atol=0)
    worst = lipschitz_curve(normal_data(), IMAGES.double(), [t], mode="max", dt=dt, batch_size=4)
    torch.testing.assert_close(worst.mean[0], expected["shared-x"].max(), rtol=1e-6, atol=0)
    assert worst.se.isnan().all()


def test_a_norm_that_falls_has_a_positive_change():
    # x0* = alpha x falls as t grows, and with it its norm.
    denoiser = ExactDenoiser(mixture("normal"), schedules.create("linear"), target=etsdm.targets.X0())
    curve = lipschitz_curve(denoiser, IMAGES.double().reshape(-1, 1), [300], mode="norm", keep_values=True)
    assert curve.values.mean() < 0 < curve.mean[0]


def test_the_error_of_a_change_of_norms_is_that_of_paired_images(samples):
    # Over repetitions with other noise and samples the estimates scatter by their standard error, far less than either norm does.
    denoiser, schedule = ExactDenoiser(mixture("m1"), schedules.create("linear")), schedules.create("linear")
    curves = [lipschitz_curve(denoiser, part, [50], mode="norm", seed=k) for k, part in enumerate(samples[:8000].split(200))]
    means, errors = torch.cat([curve.mean for curve in curves]), torch.cat([curve.se for curve in curves])
    assert len(means) == 40
    assert float(means.std() / errors.square().mean().sqrt()) == pytest.approx(1, abs=0.35)
    noise = per_sample_normal(0, "test/scatter", range(200), (1,)).double()
    t = torch.tensor(50.0, dtype=torch.float64)
    single = denoiser.output(schedule.alpha(50) * samples[:200] + schedule.sigma(50) * noise, t).norm(dim=1)
    assert errors.mean() < 0.1 * single.std() / math.sqrt(200)


def test_the_derivative_is_the_slope_of_sigma_for_normal_data(normal_data):
    # d sigma/dt = beta alpha^2 / (2 sigma) with beta = 0.1 + 19.9 t, from sigma^2 = 1 - alpha^2 and alpha' = -beta alpha/2.
    times = [0.001, 0.05, 0.5, 1.0]
    denoiser = normal_data("linear-continuous")
    curve = lipschitz_curve(denoiser, IMAGES.double(), times, mode="derivative", keep_values=True)
    for k, t in enumerate(times):
        alpha, sigma = denoiser.schedule.alpha_sigma(t)
        slope = (0.1 + 19.9 * t) * alpha**2 / (2 * sigma)
        expected = slope * noisy(denoiser.schedule, t).flatten(1).norm(dim=1)
        torch.testing.assert_close(curve.values[k], expected, rtol=1e-5, atol=0)  # the network gets its time in float32
    assert (curve.dt == 0).all()


@pytest.mark.parametrize("mode", ["shared-x", "max", "derivative"])
@pytest.mark.parametrize("target", ["edm", {"type": "eps", "scale_input": True}], ids=str)
def test_the_input_of_a_preconditioned_network_stays_that_of_the_true_time(normal_data, mode, target):
    # The network of F = sigma(s) (c_in(t) x_t) changes with the time s of its condition alone, so that K has the factor c_in(t),
    # 1 / sqrt(sigma^2 + 0.25 alpha^2) under edm and 1 / sqrt(alpha^2 + sigma^2) under scaled eps (paper Eq. 8; Karras et al. 2022).
    denoiser = normal_data("vp-edm", target=target)
    schedule, times, dt = denoiser.schedule, [0.05, 0.5], 0.01
    options = {} if mode == "derivative" else {"dt": dt}
    curve = lipschitz_curve(denoiser, IMAGES.double(), times, mode=mode, keep_values=True, **options)
    for k, t in enumerate(times):
        alpha, sigma = schedule.alpha_sigma(t)
        slope = schedule.rates(t)[1] / (2 * sigma) if mode == "derivative" else (schedule.sigma(t + dt) - sigma) / dt
        c_in = 1 / (sigma**2 + (0.25 if target == "edm" else 1) * alpha**2).sqrt()
        expected = slope * c_in * noisy(schedule, t).flatten(1).norm(dim=1)
        torch.testing.assert_close(curve.values[k], expected, rtol=2e-4, atol=0)  # the network gets its time in float32


@pytest.fixture(scope="module", params=["random", "trained"])
def network(request, tiny_spec, tiny_denoiser, tmp_path_factory):
    """A small E-TSDM network of 8x8 images with attention: at random, and after 12 steps on the digits."""
    if request.param == "random":
        return tiny_denoiser(condition_map="e-tsdm")
    training = Training(images=384, batch_size=32, learning_rate=2e-3, ema=0.9)
    trainer = Trainer(tiny_spec(condition_map="e-tsdm"), training, Digits().open("train"), seed=0)
    folder = tmp_path_factory.mktemp("trained")
    *_, last = trainer.run(lambda seen: folder / str(seen))
    assert last.images_seen == 384
    return trainer.denoiser.eval().requires_grad_(False)


def test_a_network_with_the_same_condition_does_not_change(network):
    inside = [t for t in range(100) if t not in JUMPS]
    for mode in ("shared-x", "max", "derivative"):
        curve = lipschitz_curve(network, IMAGES, inside, mode=mode)
        assert curve.mean.count_nonzero() == 0
        assert lipschitz_curve(network, IMAGES, [100, 300], mode=mode).mean.min() > 0
    assert lipschitz_curve(network, IMAGES, JUMPS).mean.min() > 0
    for mode in ("coupled", "norm"):
        curve = lipschitz_curve(network, IMAGES, inside[::9], mode=mode, keep_values=True)
        assert curve.values.abs().min() > 0


def test_the_derivative_of_a_network_is_the_limit_of_its_differences(tiny_spec):
    # In double precision, so that small differences keep their digits; time enters in float32, so they cannot be too small.
    denoiser = tiny_spec().build().eval().double()
    with seeded_global_rng(0, "test/weights"), torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.count_nonzero():
                nn.init.normal_(parameter, std=0.1)
    times = torch.tensor([3.0, 120.0, 700.0], dtype=torch.float64)
    exact = lipschitz_curve(denoiser, IMAGES.double(), times.tolist(), mode="derivative", keep_values=True).values
    h = 2.0**-7
    for k, t in enumerate(times):
        x = noisy(denoiser.schedule, t)
        ends = [denoiser.output(x, t.expand(6), condition_t=(t + side * h).expand(6)) for side in (1, -1)]
        central = (ends[0] - ends[1]).flatten(1).norm(dim=1) / (2 * h)
        torch.testing.assert_close(exact[k], central, rtol=1e-3, atol=0)


def test_a_class_conditional_network_has_a_derivative(tiny_denoiser):
    denoiser, y = tiny_denoiser(backbone={"num_classes": 10}), torch.arange(6)
    one, other = (lipschitz_curve(denoiser, IMAGES, [150], mode="derivative", y=labels).mean for labels in (y, y.flip(0)))
    assert one > 0
    assert not torch.equal(one, other)


def test_a_pair_takes_one_pass_where_the_condition_differs(counting, tiny_denoiser):
    shared = counting(tiny_denoiser(condition_map="e-tsdm"))
    for mode in ("shared-x", "max"):
        lipschitz_curve(shared, IMAGES, range(19), mode=mode)
        assert shared.backbone.passes == []
        lipschitz_curve(shared, IMAGES, range(25), mode=mode, batch_size=4)
        # Only t = 19 needs the network: six images in batches of four and two, each with conditions 0 and 20 in one pass.
        assert shared.backbone.passes == [(0,) * 4 + (20,) * 4, (0,) * 2 + (20,) * 2]
        shared.backbone.passes.clear()


def test_the_derivative_takes_one_pass_where_the_condition_changes(counting, tiny_denoiser):
    shared = counting(tiny_denoiser(condition_map="e-tsdm"))
    lipschitz_curve(shared, IMAGES, range(98, 103), mode="derivative")
    assert shared.backbone.passes == [(t,) * 6 for t in (100, 101, 102)]


@pytest.mark.parametrize("mode", ["coupled", "norm"])
def test_neighbouring_pairs_share_a_pass(counting, tiny_denoiser, mode):
    plain = counting(tiny_denoiser())
    lipschitz_curve(plain, IMAGES, range(30, 37), mode=mode)
    assert plain.backbone.passes == [(t,) * 6 for t in range(30, 38)]
    plain.backbone.passes.clear()
    lipschitz_curve(plain, IMAGES, [3, 9], mode=mode)  # no neighbours of each other
    assert plain.backbone.passes == [(t,) * 6 for t in (3, 4, 9, 10)]


@pytest.mark.parametrize("mode", ["coupled", "norm"])
def test_neighbours_are_found_also_where_their_times_are_rounded(counting, tiny_denoiser, mode):
    # 0.003 + 0.001 is not 0.004 in floating point.
    continuous = counting(tiny_denoiser(schedule="linear-continuous", time_input="scaled"))
    lipschitz_curve(continuous, IMAGES[:1], [k / 1000 for k in range(1, 21)], mode=mode)
    assert len(continuous.backbone.passes) == 21


def test_the_modes_are_the_five_readings():
    assert list(MODES) == ["shared-x", "coupled", "norm", "max", "derivative"]
