"""What all samplers of the sigma family do: on any schedule, at both ends, with noise, with churn."""

import math
from itertools import pairwise

import pytest
import torch
from doubles import CountingDenoiser, ForbiddenNoise

from etsdm.condition_maps import ETSDM
from etsdm.randomness import per_sample_normal
from etsdm.registry import samplers, schedules
from etsdm.samplers import DDIM, EDMStochastic, Euler, Heun
from etsdm.samplers.sigma_space import ancestral_step
from etsdm.schedules import EDM, VPEDM, Linear, LinearContinuous, ZeroTerminal
from etsdm.targets import X0, V
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture

# Calls of n steps to the clean image.
FAMILY = {
    "euler": lambda n: n,
    "euler-ancestral": lambda n: n,
    "heun": lambda n: 2 * n - 1,
    "edm-stochastic": lambda n: 2 * n - 1,
    "dpm2": lambda n: 2 * n - 1,
    "dpm2-ancestral": lambda n: 2 * n - 1,
    "dpm-solver++-2s-ancestral": lambda n: 2 * n - 1,
    "dpm-solver++-sde": lambda n: 2 * n - 1,
    "dpm-solver++-2m-sde": lambda n: n,
    "dpm-solver++-3m-sde": lambda n: n,
    "lms": lambda n: n,
    "plms": lambda n: n + (n > 1),
}
NOISELESS = {"euler": {}, "heun": {}, "dpm2": {}, "lms": {}, "plms": {}} | {
    name: {"eta": 0} for name in FAMILY if "ancestral" in name or "sde" in name
}
NOISE = per_sample_normal(0, "test/noise", range(4), (1,))
every_one = pytest.mark.parametrize("name", FAMILY)


def made(name, **fields):
    return samplers.create(name, **({"grid": "uniform"} if name == "plms" else {}), **fields)


@every_one
@pytest.mark.parametrize("schedule", sorted(schedules))
def test_every_schedule_is_sampled_from_its_last_time_to_the_clean_image(name, schedule):
    for n in (1, 2, 5):
        denoiser = CountingDenoiser(schedules.create(schedule), target=X0())
        sampler = made(name, steps=n)
        first = sampler.path(denoiser)[0]
        steps = list(sampler.trajectory(denoiser, NOISE * first.sigma))
        assert all(step.x.isfinite().all() and step.x.dtype == torch.float32 for step in steps)
        assert [step.i for step in steps] == list(range(1, n + 1))
        calls = FAMILY[name](n)
        if first.alpha == 0 and n > 1:
            # The first step is of the first order and asks once; what `plms` does first it does in the second, unless that is the last.
            calls = FAMILY[name](n - 1) + 1
        assert len(denoiser.times) == steps[-1].nfe == calls
        if not sampler.corrects_to_clean:
            assert torch.equal(steps[-1].x, steps[-1].x0)


@pytest.mark.parametrize(("name", "fields"), NOISELESS.items(), ids=NOISELESS)
def test_the_flow_without_noise_draws_none(name, fields):
    denoiser = ExactDenoiser(mixture("m1"), Linear())
    assert list(made(name, steps=3, **fields).trajectory(denoiser, NOISE, ForbiddenNoise()))


@every_one
def test_a_schedule_and_the_same_divided_by_its_alpha_give_the_same_images(name):
    y = NOISE.double() * VPEDM().sigma(1.0)
    ends = []
    for schedule in (LinearContinuous(), VPEDM()):
        trajectory = made(name, steps=6, t_end=0.01).trajectory
        *_, last = trajectory(ExactDenoiser(mixture("m1"), schedule), y * schedule.alpha(1.0))
        ends.append(last.x / schedule.alpha(0.01))
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


@every_one
def test_the_first_step_without_signal_goes_by_x0_alone(name):
    denoiser = ExactDenoiser(mixture("m1"), ZeroTerminal(), target=V())
    sampler = made(name, steps=4, **NOISELESS.get(name, {"churn": 0}))
    path = sampler.path(denoiser)
    step = next(sampler.trajectory(denoiser, NOISE))
    mean = float(mixture("m1").weights @ mixture("m1").means[:, 0])
    torch.testing.assert_close(step.x, path[1].alpha * mean + path[1].sigma * NOISE)
    assert (step.nfe, step.order) == (1, 1)


def test_euler_is_ddim_on_the_same_times():
    denoiser = ExactDenoiser(mixture("m1"), Linear())
    one, other = Euler(steps=9, grid="trailing"), DDIM(steps=9, grid="trailing")
    for ours, theirs in zip(one.trajectory(denoiser, NOISE), other.trajectory(denoiser, NOISE), strict=True):
        torch.testing.assert_close(ours.x, theirs.x)


def test_ancestral_levels_add_up_and_are_those_of_the_posterior():
    # q(x_s | x_t, x0) at alpha = 1 has variance k_s^2 (k^2 - k_s^2) / k^2.
    down, up = ancestral_step(2.0, 1.0, eta=1)
    assert (down, up) == pytest.approx((1 / 2, math.sqrt(3) / 2))
    for k, k_s, eta in ((3.0, 1.0, 0.3), (3.0, 2.9, 1.0), (math.inf, 5.0, 0.5), (3.0, 1.0, 7.0)):
        down, up = ancestral_step(k, k_s, eta)
        assert down**2 + up**2 == pytest.approx(k_s**2)
    assert ancestral_step(3.0, 1.0, eta=0) == (1, 0)
    assert ancestral_step(3.0, 1.0, eta=7) == (0, 1)


@pytest.mark.parametrize("name", ["euler-ancestral", "dpm2-ancestral", "dpm-solver++-2s-ancestral"])
def test_noise_of_the_full_next_level_leaves_x0_and_that_noise(name):
    denoiser = ExactDenoiser(mixture("m1"), Linear())
    sampler = made(name, steps=3, eta=50)
    step = next(sampler.trajectory(denoiser, NOISE))
    s = sampler.path(denoiser)[1]
    torch.testing.assert_close(step.x, s.alpha * step.x0 + s.sigma * per_sample_normal(0, "sampling/steps", range(4), (1,)))


def test_the_order_of_every_step_is_told():
    denoiser = ExactDenoiser(mixture("m1"), Linear())
    orders = {name: [step.order for step in made(name, steps=6).trajectory(denoiser, NOISE)] for name in FAMILY}
    assert orders["euler"] == orders["euler-ancestral"] == [1] * 6
    for name in ("heun", "edm-stochastic", "dpm2", "dpm2-ancestral", "dpm-solver++-2s-ancestral", "dpm-solver++-sde"):
        assert orders[name] == [2, 2, 2, 2, 2, 1]
    assert orders["dpm-solver++-2m-sde"] == orders["dpm-solver++-3m-sde"] == [1, 2, 2, 2, 2, 1]
    assert orders["lms"] == [1, 2, 3, 4, 4, 4]
    assert orders["plms"] == [2] * 6


def test_churn_adds_the_noise_that_its_level_asks_for():
    # For data at one place x0 is that place, so that what a step does to y - x0 is known.
    denoiser = ExactDenoiser(GaussianMixture([[0.5]], [0.0], [1.0]), EDM())
    x = torch.tensor([[3.0]], dtype=torch.float64)
    fields = {"grid": {"type": "explicit", "at": [4.0, 2.0]}, "steps": 2, "s_noise": 1.5}

    class One:
        def draw(self, shape):
            return torch.ones(1, *shape, dtype=torch.float64)

    first = next(EDMStochastic(churn=0.5, **fields).trajectory(denoiser, x, One()))
    churned = 4 * (1 + 0.25)  # a quarter in each of two steps
    noisy = 3 + 1.5 * math.sqrt(churned**2 - 16)
    assert first.x.item() == pytest.approx(0.5 + (noisy - 0.5) * 2 / churned, rel=1e-12)
    most = next(EDMStochastic(churn=1000, **fields).trajectory(denoiser, x, One()))
    noisy = 3 + 1.5 * 4  # sqrt(2) - 1 at most: as much variance again
    assert most.x.item() == pytest.approx(0.5 + (noisy - 0.5) / math.sqrt(8), rel=1e-12)
    untouched = next(Heun(grid=fields["grid"], steps=2).trajectory(denoiser, x))
    for bounds in ({"s_min": 4.1}, {"s_max": 3.9}):
        assert torch.equal(next(EDMStochastic(churn=0.5, **bounds, **fields).trajectory(denoiser, x, One())).x, untouched.x)


def test_churn_never_leaves_the_times_of_the_schedule():
    denoiser = ExactDenoiser(mixture("m1"), EDM(), target=X0())
    *_, last = EDMStochastic(steps=5, s_max=1e9).trajectory(denoiser, 80 * NOISE)
    assert last.x.isfinite().all()


def test_conditions_are_shared_at_the_exact_time_between_timesteps():
    denoiser = CountingDenoiser(Linear(), condition_map=ETSDM())
    sampler = made("dpm2", steps=5)
    list(sampler.trajectory(denoiser, NOISE))
    levels = [-point.lam for point in sampler.path(denoiser)[:-1]]
    found = [-Linear().log_snr(t).item() / 2 for t in denoiser.times]
    expected = [value for one, other in pairwise(levels) for value in (one, (one + other) / 2)] + levels[-1:]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("euler", {"steps": 0}),
        ("euler-ancestral", {"eta": -0.1}),
        ("edm-stochastic", {"churn": -1}),
        ("lms", {"order": 0}),
        ("analytic", {"std": -1}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        samplers[name](**fields)
