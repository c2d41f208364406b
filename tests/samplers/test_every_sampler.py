"""What holds for every sampler on every schedule, for every target and any number of steps."""

import itertools
import warnings

import pytest
import torch

from etsdm.condition_maps import Identity, Timesteps
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import CLEAN
from etsdm.registry import samplers, schedules, targets

STEPS = (1, 2, 3, 5, 10, 17, 50)
SPREAD = 0.5
T = 100  # of discrete schedules, so that as many steps as timesteps are quick
TARGETS = [targets.create(name, **({"allow_eps_at_zero_snr": True} if name in ("eps", "score") else {})) for name in targets]


def schedule_of(name):
    part = schedules[name]
    return schedules.create(name, **({"timesteps": T} if "timesteps" in part.model_fields else {}))


SCHEDULES = {name: schedule_of(name) for name in schedules}


class Gaussian:
    """The exact denoiser of N(0, 0.5^2) in every pixel, through a target's coefficients; it counts its calls."""

    condition_map, time_input = Identity(), Timesteps()
    bounded, num_classes, device = False, None, torch.device("cpu")

    def __init__(self, schedule, target):
        self.schedule = schedule
        self.target = target
        self.calls = []

    def predict(self, x, t, **cond):
        self.calls.append(float(t))
        alpha, sigma = self.schedule.alpha_sigma(float(t))
        variance = alpha**2 * SPREAD**2 + sigma**2
        x0, eps = alpha * SPREAD**2 / variance * x, sigma / variance * x
        output = self.target.training_target(x0, eps, alpha, sigma)
        return Prediction.from_output(self, x, t, output)


def create(name, n):
    return samplers.create(name, steps=n)


def run(sampler, schedule, target):
    """The steps of two images of one pixel, and the denoiser that was asked."""
    denoiser = Gaussian(schedule, target)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "alpha = 0 at t")
        first = sampler.path(denoiser)[0]
        noise = first.sigma * torch.tensor([[[[1.3]]], [[[-0.4]]]], dtype=torch.float64)
        steps = list(sampler.trajectory(denoiser, noise))
        plan = sampler.plan(denoiser)
    return steps, denoiser, plan


def check(name, schedule, target, n):
    steps, denoiser, plan = run(create(name, n), schedule, target)
    low, high = schedule.domain
    assert all(torch.isfinite(step.x).all() and torch.isfinite(step.x0).all() for step in steps)
    assert [step.i for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].n == len(steps)
    assert steps[-1].nfe == len(denoiser.calls) == plan.nfe
    assert denoiser.calls == [call.t for call in plan.calls]
    assert all(low <= t <= high for t in denoiser.calls)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", samplers)
def test_every_number_of_steps_is_finite_and_counted(name, schedule):
    turn = itertools.cycle(TARGETS)
    for n in STEPS:
        for target in TARGETS if n in (1, 3) else [next(turn)]:
            check(name, SCHEDULES[schedule], target, n)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.type_name)
@pytest.mark.parametrize("name", samplers)
def test_as_many_steps_as_timesteps_are_finite_and_counted(name, target):
    for schedule in ("linear", "zero-terminal-snr"):
        found = SCHEDULES[schedule]
        check(name, found, target, int(found.horizon) if schedule == "linear" else 50)


@pytest.mark.parametrize("name", samplers)
def test_a_path_ends_where_it_promises(name):
    schedule = SCHEDULES["linear-continuous"]
    for t_end, zeroed in ((None, False), (0.02, False), (0.02, True)):
        sampler = create(name, 6).model_copy(update={"grid": "linspace", "t_end": t_end, "denoise_to_zero": zeroed})
        path = sampler.path(Gaussian(schedule, TARGETS[0]))
        assert path[0] == 1.0
        if t_end is None or zeroed:
            assert path[-1] is CLEAN
        else:
            assert path[-1] == t_end
        if zeroed:
            assert path[-2] == t_end
        steps, _, _ = run(sampler, schedule, TARGETS[0])
        assert len(steps) == len(path) - 1
        if t_end is None or zeroed:
            # The last step goes to the image that is predicted, wherever a solver has asked last.
            assert torch.isfinite(steps[-1].x).all()
