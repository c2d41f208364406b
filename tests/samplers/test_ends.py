"""Paths whose start is not the noise level of x, or whose end is not clean, and schedules that lose their signal too early."""

import warnings

import pytest
import torch
from pydantic import ValidationError

import etsdm
from etsdm.denoisers.config import ScheduleConfig
from etsdm.errors import PartError
from etsdm.registry import samplers, schedules
from etsdm.samplers import DDIM, PLMS, Analytic, SinglestepDPMSolver
from etsdm.sampling import img2img
from etsdm.schedules import EDM, CosineContinuous, Flow, Linear, LinearContinuous, Quadratic, Sigmoid, ZeroTerminal
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, mixture

M1 = mixture("m1")
ZERO_ENDS = [Flow(), Sigmoid(), CosineContinuous(), ZeroTerminal()]


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", ["ddim", "plms", "ddpm"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("schedule", [Linear(), schedules.create("cosine"), LinearContinuous(), *ZERO_ENDS], ids=lambda s: s.type_name)
def test_defaults_start_where_pure_noise_is_as_good_as_x(name, steps, schedule):
    config = ScheduleConfig(schedule, V())
    assert schedule.alpha(samplers.create(name, steps=steps).times(config)[0]) - schedule.alpha(schedule.domain[1]) < 0.05
    assert warned(lambda: samplers.create(name, steps=steps).check(config)) == []


def test_fifty_steps_of_ddim_are_those_of_its_code():
    assert DDIM().times(ScheduleConfig(Linear())).tolist() == [20.0 * i for i in reversed(range(50))]


def test_one_step_gives_the_mean_of_the_data_and_not_the_noise():
    denoiser = ExactDenoiser(M1, Linear())
    mean = (M1.weights[:, None] * M1.means).sum().item()
    for sampler in ("ddim", "plms"):
        assert (etsdm.sample(denoiser, 4, sampler=sampler, steps=1) - mean).abs().max() < 0.05


@pytest.mark.parametrize("schedule", ZERO_ENDS, ids=lambda s: s.type_name)
def test_schedules_without_terminal_signal_are_sampled_from_their_end(schedule):
    config = ScheduleConfig(schedule, V())
    for sampler in (DDIM(), PLMS()):
        assert sampler.times(config)[0] == schedule.domain[1]
    message = rf"^alpha = 0 at t = {schedule.domain[1]:g}, which grid 'leading' leaves out: .* give grid auto or trailing$"
    with pytest.warns(UserWarning, match=message):
        DDIM(steps=1000 // 4, grid="leading").check(config)
    assert warned(lambda: DDIM(steps=1000, grid="leading").check(config)) == []


@pytest.mark.parametrize(
    ("sampler", "schedule", "start", "message"),
    [
        (DDIM(steps=1, grid="leading"), Linear(), None, r"pure noise at t = 0, .* alpha = 1, sigma = 0.01; give grid auto or trailing .*"),
        (PLMS(steps=2, grid="leading"), Linear(), None, r"pure noise at t = 500, .* alpha = 0.279, .* give grid auto or trailing .*"),
        (DDIM(steps=2, grid={"type": "explicit", "at": [300, 3]}), Linear(), None, r"pure noise at t = 300, .* 'explicit', or more steps"),
        (DDIM(steps=5), Linear(), 500, r"pure noise at t = 500, .* give a start nearer to 999, or noise images .* by img2img"),
        (DDIM(steps=5), EDM(), 3, r"pure noise at t = 2.96, .* sigma = 2.96; give a start nearer to 80, .*"),
        (
            DDIM(steps=5),
            Linear(timesteps=100),
            None,
            r"pure noise at t = 99, .* alpha = 0.603: schedule 'linear' does not end in .*; give it more .*",
        ),
        (
            DDIM(steps=5, grid="linspace", t_end=998),
            Linear(),
            None,
            r"ends at t_end = 998, .* deviation 156; give denoise_to_zero: .*",
        ),
        (SinglestepDPMSolver(steps=6, t_end=100), Linear(), None, r"ends at t_end = 100, .* deviation 0.342; give denoise_to_zero: true.*"),
    ],
    ids=str,
)
def test_a_start_or_an_end_that_is_not_meant_is_warned_of_with_its_level(sampler, schedule, start, message):
    denoiser = ExactDenoiser(M1, schedule)
    with pytest.warns(UserWarning, match=f"^sampling (starts from )?{message}$"):
        etsdm.sample(denoiser, 2, sampler=sampler, start=start)


def test_images_are_noised_to_the_start_also_in_one_step():
    denoiser, x = ExactDenoiser(M1, Linear()), torch.tensor([[-1.0], [1.0]])
    one, many = (img2img(denoiser, x, start=500, steps=steps) for steps in (1, 100))
    # One step gives the mean given x_t, of which many steps give a sample: neither is the input.
    assert (one - x).abs().min() > 0.1
    assert (many - x).abs().max() > 0.1
    assert DDIM(steps=1).times(denoiser, 50).tolist() == [50]


@pytest.mark.parametrize("name", ["ldm", "linear", "sd", "cosine-shift", "linear-continuous", "edm"])
@pytest.mark.parametrize("sampler", samplers.names())
def test_every_default_ends_in_clean_images_or_says_what_is_left(name, sampler):
    schedule = schedules.create(name)
    plan = samplers.create(sampler, steps=6).plan(schedule)
    assert plan.end is None
    left = schedule.sigma(plan.calls[-1].t).item() if sampler == "analytic" else 0
    assert plan.noise_left == pytest.approx(left, rel=0.001 if schedule.variance_preserving else 1)


def test_the_noise_of_the_authors_end_is_in_the_plan():
    plan = SinglestepDPMSolver(steps=6, t_end=0).plan(schedules.create("ldm"))
    assert (plan.end, plan.record()["noise_left"]) == (0, pytest.approx(0.0388, abs=1e-4))
    assert Analytic(std=0).plan(Linear()).noise_left == 0


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(timesteps=4000, beta_end=0.2),
        Quadratic(timesteps=4000, beta_end=0.5),
        LinearContinuous(beta_max=200),
        EDM(sigma_max=1e9),
        schedules.create("ve", sigma_max=1e9),
        schedules.create("sigmoid", end=60.0),
    ],
    ids=lambda s: s.type_name,
)
def test_a_schedule_that_loses_its_signal_early_is_refused_with_the_time(schedule, tiny_spec):
    message = rf"schedule: '{schedule.type_name}' has no signal from t = [\d.e+-]+ on, alpha / sigma < 1e-06, .*; give less noise"
    for name in samplers.names():
        with pytest.raises(PartError, match=message):
            etsdm.sample(ExactDenoiser(M1, schedule, target=V()), 2, sampler=name)
    with pytest.raises(ValidationError, match=message.removeprefix("schedule: ")):
        tiny_spec(schedule=schedule, target="v")


@pytest.mark.parametrize("name", samplers.names())
@pytest.mark.parametrize("distance", [1e-7, 1e-12])
def test_a_start_whose_signal_is_below_rounding_loses_nothing(name, distance):
    denoiser = ExactDenoiser(M1, Flow(), target=V())
    noise = torch.linspace(-2, 2, 9)[:, None]
    *_, step = samplers.create(name, steps=12).trajectory(denoiser, noise, start=1 - distance)
    assert step.x.abs().max() < 8  # hundreds or more where differences of float32 were divided by alpha
