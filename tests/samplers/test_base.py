import doubles
import pytest
import torch

from etsdm.denoisers.config import ScheduleConfig
from etsdm.denoisers.time_point import CLEAN, TimePoint
from etsdm.errors import PartError
from etsdm.randomness import SampleNoise, per_sample_normal
from etsdm.registry import samplers
from etsdm.samplers import DDIM, DDPM
from etsdm.schedules import Flow, Linear, LinearContinuous, ZeroTerminal
from etsdm.targets import X0, Eps, V

SAMPLERS = [DDPM(steps=4), DDPM(steps=4, variance="posterior"), DDIM(steps=4), DDIM(steps=4, eta=0.5)]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddpm", "ddpm-posterior", "ddim", "ddim-noisy"])
NOISE = per_sample_normal(0, "test/noise", range(3), (1, 4, 4))


TEN_STEPS = Linear(timesteps=10)


def gaussian(schedule=TEN_STEPS, **attributes):
    """The exact denoiser of N(0, 0.5^2) in every pixel, not one of ours."""
    return doubles.gaussian(schedule, 0.5, **{"bounded": True, **attributes})


def last(sampler, *arguments, **cond):
    *_, step = sampler.trajectory(gaussian(), *arguments, **cond)
    return step


@every_sampler
def test_steps_are_numbered_and_start_from_the_times_of_the_grid(sampler):
    steps = list(sampler.trajectory(gaussian(), NOISE))
    assert [step.i for step in steps] == [1, 2, 3, 4]
    assert {step.n for step in steps} == {4}
    assert [step.t for step in steps] == sampler.times(gaussian()).tolist()
    assert all(step.x.shape == step.x0.shape == NOISE.shape for step in steps)


@every_sampler
def test_a_step_is_computed_only_when_it_is_asked_for(sampler):
    denoiser = gaussian()
    trajectory = sampler.trajectory(denoiser, NOISE)
    assert denoiser.times == []
    for calls, step in enumerate(trajectory, start=1):
        assert len(denoiser.times) == step.nfe == calls
    assert denoiser.times == sampler.times(denoiser).tolist()


@every_sampler
def test_gradients_are_off_inside_and_the_callers_between_the_steps(sampler):
    denoiser = gaussian()
    for _ in sampler.trajectory(denoiser, NOISE):
        assert torch.is_grad_enabled()
    assert denoiser.gradients == [False] * 4
    with torch.no_grad():
        for _ in sampler.trajectory(denoiser, NOISE):
            assert not torch.is_grad_enabled()


@every_sampler
def test_the_starting_noise_is_left_as_it_was(sampler):
    before = NOISE.clone()
    last(sampler, NOISE)
    assert torch.equal(NOISE, before)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_have_the_dtype_of_the_noise(sampler, dtype):
    assert last(sampler, NOISE.to(dtype)).x.dtype == dtype


@every_sampler
def test_what_the_network_takes_besides_reaches_it(sampler):
    denoiser, y = gaussian(), torch.tensor([1, 2, 3])
    list(sampler.trajectory(denoiser, NOISE, y=y))
    assert all(cond["y"] is y for cond in denoiser.conditions)


@pytest.mark.parametrize("sampler", SAMPLERS[:2] + SAMPLERS[3:], ids=str)
def test_the_noise_of_the_steps_can_be_given(sampler):
    default = last(sampler, NOISE).x
    assert torch.equal(default, last(sampler, NOISE, SampleNoise(0, "sampling/steps", range(3))).x)
    assert not torch.equal(default, last(sampler, NOISE, SampleNoise(1, "sampling/steps", range(3))).x)


@pytest.mark.parametrize("sampler", [DDIM(steps=4), DDIM(steps=4, clip_x0=False)], ids=str)
def test_ddim_without_eta_draws_no_noise(sampler):
    last(sampler, NOISE, doubles.ForbiddenNoise())


@every_sampler
def test_the_last_image_is_the_predicted_one_within_its_range(sampler):
    step = last(sampler, 3 * NOISE)
    torch.testing.assert_close(step.x, step.x0)
    assert step.x0.abs().max() <= 1


@pytest.mark.parametrize("sampler", [DDPM(steps=4, clip_x0=False), DDIM(steps=4, clip_x0=False)], ids=str)
def test_clipping_can_be_left_out(sampler):
    assert last(sampler, 9 * NOISE).x.abs().max() > 1


def test_images_are_clipped_and_what_lies_anywhere_is_not_unless_set():
    for sampler in (DDPM(steps=4), DDIM(steps=4)):
        *_, image = sampler.trajectory(gaussian(bounded=True), 9 * NOISE)
        *_, latent = sampler.trajectory(gaussian(bounded=False), 9 * NOISE)
        assert image.x.abs().max() == 1 < latent.x.abs().max()
    *_, clipped = DDIM(steps=4, clip_x0=True).trajectory(gaussian(bounded=False), 9 * NOISE)
    assert clipped.x.abs().max() == 1


def test_a_dynamic_threshold_cuts_at_a_quantile_of_each_image_and_scales():
    x = torch.tensor([[0.5, -1.0, 2.0, 4.0, -8.0], [0.1, 0.2, -0.3, 0.4, 0.5]])
    clipped = next(DDIM(steps=1, dynamic_threshold=0.75).trajectory(gaussian(), x)).x0
    plain = next(DDIM(steps=1, clip_x0=False).trajectory(gaussian(), x)).x0
    # Three quarters of five magnitudes lie up to the fourth; the second image does not reach 1.
    cut = plain[0, 3].abs()
    assert cut > 1
    torch.testing.assert_close(clipped[0], plain[0].clamp(-cut, cut) / cut)
    torch.testing.assert_close(clipped[1], plain[1])


def test_a_trajectory_may_end_before_the_clean_image():
    denoiser = gaussian()
    steps = list(DDIM(steps=3, grid="linspace", t_end=3, clip_x0=False).trajectory(denoiser, NOISE))
    assert denoiser.times == [9, 7, 5]
    assert [(step.i, step.n, step.t) for step in steps] == [(1, 3, 9), (2, 3, 7), (3, 3, 5)]
    at_5, at_3 = (TimePoint.at(denoiser, t) for t in (5.0, 3.0))
    last, before = steps[-1], steps[-2]
    eps = (before.x - at_5.alpha * last.x0) / at_5.sigma
    torch.testing.assert_close(last.x, at_3.alpha * last.x0 + at_3.sigma * eps)


def test_one_more_step_goes_from_there_to_the_clean_image():
    denoiser = gaussian()
    *_, last = DDIM(steps=3, grid="linspace", t_end=3, denoise_to_zero=True).trajectory(denoiser, NOISE)
    assert denoiser.times == [9, 7, 5, 3]
    assert (last.i, last.n, last.nfe, last.t) == (4, 4, 4, 3)
    torch.testing.assert_close(last.x, last.x0)


def test_an_end_that_is_clean_has_no_step_after_it():
    for denoise_to_zero in (False, True):
        sampler = DDIM(steps=2, grid="linspace", t_end=0, denoise_to_zero=denoise_to_zero)
        assert [float(point) for point in sampler.path(ScheduleConfig(LinearContinuous()))] == [1, 0.5, 0]


def test_a_trajectory_may_start_anywhere():
    denoiser = gaussian()
    steps = list(DDIM(steps=3, grid="linspace").trajectory(denoiser, NOISE, start=5))
    assert denoiser.times == [5, 2.5, 0]
    assert [step.t for step in steps] == [5, 2.5, 0]


def test_a_path_knows_where_it_passes_and_ends():
    *points, end = DDIM(steps=2, grid="linspace").path(ScheduleConfig(ZeroTerminal(), V()))
    assert (end.alpha, end.sigma, end.lam) == (1, 0, float("inf"))
    assert end is CLEAN
    alpha, sigma = ZeroTerminal().alpha_sigma(0.0)
    first, second = ((float(point), point.alpha, point.sigma, point.lam) for point in points)
    assert first == (999, 0, 1, -float("inf"))
    assert second == pytest.approx((0, alpha.item(), sigma.item(), (alpha / sigma).log().item()), rel=1e-12)
    assert len(DDIM(steps=2, grid="linspace", t_end=5).path(ScheduleConfig(Linear()))) == 3


def test_ddpm_visits_every_timestep_unless_set():
    assert DDPM().times(ScheduleConfig(Linear())).tolist() == list(reversed(range(1000)))
    assert len(DDPM(steps=7).times(ScheduleConfig(Linear()))) == 7
    assert len(DDIM().times(ScheduleConfig(Linear()))) == 50


@pytest.mark.parametrize(
    ("sampler", "times"),
    [
        (DDPM(), list(reversed(range(999)))),
        (DDPM(steps=3), [998, 500, 0]),
        (DDIM(steps=4, grid="trailing"), [998, 749, 499, 249]),
        (DDIM(steps=1, grid="trailing"), [998]),
    ],
)
def test_noise_prediction_starts_a_step_later_where_the_last_time_has_no_signal(sampler, times):
    config = ScheduleConfig(ZeroTerminal(), Eps(allow_eps_at_zero_snr=True))
    with pytest.warns(UserWarning, match=r"^alpha = 0 at t = 999, where target 'eps' does not give x0: sampling starts from t = 998$"):
        assert sampler.times(config).tolist() == times


@pytest.mark.parametrize("target", [V(), X0()])
def test_other_targets_start_where_there_is_no_signal(target):
    assert DDPM().times(ScheduleConfig(ZeroTerminal(), target))[0] == 999
    assert DDIM().times(ScheduleConfig(ZeroTerminal(), target))[0] == 999
    with pytest.warns(UserWarning, match="starts from t = 998"):
        assert DDIM().times(ScheduleConfig(ZeroTerminal(), Eps(allow_eps_at_zero_snr=True)))[0] == 998


def test_sampling_by_noise_prediction_on_a_schedule_without_terminal_signal_is_finite():
    denoiser = gaussian(ZeroTerminal(base=Linear(timesteps=10)), target=Eps(allow_eps_at_zero_snr=True))
    with pytest.warns(UserWarning, match="sampling starts from t = 8$"):
        *_, step = DDPM().trajectory(denoiser, NOISE)
    assert denoiser.times == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert step.x.isfinite().all()


@every_sampler
def test_more_steps_than_timesteps_are_refused(sampler):
    many = samplers.create(sampler.type_name, steps=11)
    with pytest.raises(ValueError, match=r"^steps: 11 .* 10 .*; give 1 to 10$"):
        next(many.trajectory(gaussian(), NOISE))


@pytest.mark.parametrize(
    "fields",
    [{"steps": 0}, {"eta": -0.1}, {"eta": 1.1}, {"grid": "karass"}, {"t_end": -1}, {"dynamic_threshold": 0}, {"denoise_to_zero": True}],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        DDIM(**fields)


def test_a_path_without_a_step_is_refused():
    with pytest.raises(ValueError, match=r"^start: .* 0 .*; give a later start or an earlier t_end$"):
        DDIM(steps=1, grid={"type": "explicit", "at": [0.0]}).path(ScheduleConfig(Flow(), V()))


@pytest.mark.parametrize(
    ("sampler", "schedule", "path", "message"),
    [
        (DDIM(steps=11), Linear(timesteps=10), ("steps",), "11 steps do not fit a schedule of 10 timesteps; give 1 to 10"),
        (DDIM(grid="linspace", t_end=5000), Linear(), ("t_end",), "5000 is outside the times of schedule 'linear'; give 0 to 999"),
        (
            DDIM(steps=1, grid={"type": "explicit", "at": [2000.0]}),
            Linear(),
            ("grid", "at"),
            "2000 is outside the times of schedule 'linear'; give 0 to 999",
        ),
        # Nobody gave a start: it is the first time of the grid.
        (DDIM(steps=1, grid={"type": "explicit", "at": [0.0]}), Flow(), ("grid",), "start: t = 0 is where it ends"),
        (DDPM(variance="learned"), Linear(), ("variance",), "found 'learned', but the model learns no variance"),
    ],
)
def test_a_sampler_is_checked_against_a_denoiser_by_the_field_that_does_not_suit(sampler, schedule, path, message):
    with pytest.raises(PartError) as error:
        sampler.check(ScheduleConfig(schedule, V(), learns_variance=False))
    assert error.value.path == path
    assert error.value.message.startswith(message)


def test_a_sampler_that_suits_a_denoiser_passes_its_check():
    DDIM().check(ScheduleConfig(Linear()))
    DDPM(variance="learned").check(ScheduleConfig(Linear(), learns_variance=True))


def test_all_timesteps_are_those_up_to_the_start():
    assert DDPM().times(ScheduleConfig(Linear()), start=500).tolist() == list(range(500, -1, -1))
    assert len(DDPM().times(ScheduleConfig(LinearContinuous()), start=0.25)) == 250


def test_a_clean_end_is_not_denoised_once_more():
    plain = samplers.create("dpm-solver++-3m", steps=6, grid="linspace", t_end=0.0)
    zeroed = plain.model_copy(update={"denoise_to_zero": True})
    assert [call.order for call in plain.plan(LinearContinuous()).calls] == [call.order for call in zeroed.plan(LinearContinuous()).calls]
