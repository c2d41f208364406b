from itertools import pairwise

import pytest
import torch
from doubles import CountingDenoiser
from pydantic import ValidationError

from etsdm.grids import Explicit
from etsdm.registry import samplers, schedules, targets
from etsdm.samplers import DDIM, MultistepDPMSolver, SinglestepDPMSolver
from etsdm.samplers.dpm_solver import singlestep_count, singlestep_orders
from etsdm.schedules import Linear, LinearContinuous, ZeroTerminal
from etsdm.targets import Eps, V
from etsdm.theory import ExactDenoiser, mixture

STARTS = torch.tensor([-2.0, -0.7, 0.1, 0.9, 2.2], dtype=torch.float64)[:, None]
PRESETS = [f"dpm-solver{kind}" for kind in ("-1", "-2", "-3", "-2m", "-3m", "++-2s", "++-3s", "++-2m", "++-3m")]
BOTH = pytest.mark.parametrize("predicts", ["eps", "x0"])


def run(sampler, denoiser, **fields):
    return list(sampler.trajectory(denoiser, STARTS, **fields))


def times_asked(sampler, schedule):
    denoiser = CountingDenoiser(schedule)
    run(sampler, denoiser)
    return denoiser.times


def published_orders(nfe, order):
    """The table of the authors' `get_orders_and_timesteps_for_singlestep_solver`."""
    if order == 1:
        return [1] * nfe
    if order == 2:
        return [2] * (nfe // 2) + [1] * (nfe % 2)
    count = nfe // 3 + 1
    return {0: [3] * (count - 2) + [2, 1], 1: [3] * (count - 1) + [1], 2: [3] * (count - 1) + [2]}[nfe % 3]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_singlestep_orders_are_those_of_the_authors(order):
    for nfe in range(1, 61):
        orders = singlestep_orders(nfe, order, [True] * singlestep_count(nfe, order))
        assert orders == published_orders(nfe, order)
        assert sum(orders) == nfe


def test_a_step_without_signal_or_to_the_clean_image_is_of_order_1():
    assert singlestep_orders(8, 3, [False, True, True, False]) == [1, 3, 3, 1]
    assert singlestep_count(0, 3) == 0


@BOTH
def test_order_1_is_ddim(predicts):
    denoiser = ExactDenoiser(mixture("m1"), LinearContinuous())
    steps = run(DDIM(steps=12, grid="quadratic", t_end=0.01, clip_x0=False), denoiser)
    for solver in (SinglestepDPMSolver, MultistepDPMSolver):
        ours = run(solver(order=1, predicts=predicts, steps=12, grid="quadratic", t_end=0.01), denoiser)
        for step, other in zip(steps, ours, strict=True):
            torch.testing.assert_close(other.x, step.x, rtol=0, atol=1e-12)


# How singlestep solvers spend their calls: the rule of the authors' code.


@pytest.mark.parametrize(
    ("order", "steps", "split"),
    [
        (3, 50, [*[3] * 16, 2]),
        (3, 21, [*[3] * 6, 2, 1]),
        (3, 20, [*[3] * 6, 2]),
        (3, 19, [*[3] * 6, 1]),
        (3, 3, [2, 1]),
        (3, 2, [2]),
        (3, 1, [1]),
        (2, 10, [2] * 5),
        (2, 9, [2, 2, 2, 2, 1]),
        (2, 1, [1]),
        (1, 4, [1] * 4),
    ],
)
@pytest.mark.parametrize("grid", ["log-snr", "linspace"])
def test_the_calls_are_split_into_steps_of_the_highest_order(order, steps, split, grid):
    sampler = samplers.create(f"dpm-solver-{order}", steps=steps, grid=grid, t_end=0)
    taken = run(sampler, ExactDenoiser(mixture("m1"), Linear()))
    assert [step.order for step in taken] == split
    assert [later.nfe - step.nfe for step, later in pairwise(taken)] == split[1:]
    assert taken[-1].nfe == steps


def test_without_an_end_the_last_call_goes_to_the_clean_image():
    *_, before, last = run(SinglestepDPMSolver(steps=21, t_end=None), ExactDenoiser(mixture("m1"), Linear()))
    assert (before.order, before.nfe, last.order, last.nfe) == (2, 20, 1, 21)
    assert last.t == 0
    assert torch.equal(last.x, last.x0)


def test_denoising_to_zero_is_one_call_more():
    *_, before, last = run(SinglestepDPMSolver(steps=20, t_end=0, denoise_to_zero=True), ExactDenoiser(mixture("m1"), Linear()))
    assert (before.order, before.nfe, last.order, last.nfe) == (2, 20, 1, 21)


@pytest.mark.parametrize(
    ("schedule", "fields", "end"),
    [
        (Linear(), {"t_end": 0}, 0),
        (LinearContinuous(), {"t_end": 0}, 0.001),
        (LinearContinuous(), {"t_end": 1e-4}, 1e-4),
        (Linear(), {"t_end": 2.5}, 2.5),
    ],
)
def test_an_end_without_noise_is_the_first_time_with_noise(schedule, fields, end):
    sampler = SinglestepDPMSolver(steps=7, **fields)
    assert sampler.times(ExactDenoiser(mixture("m1"), schedule))[-1] == end


@pytest.mark.parametrize(("order", "steps", "full"), [(2, 8, 8), (3, 12, 9)])
def test_on_the_log_snr_grid_all_calls_of_full_steps_are_at_equal_distances(order, steps, full):
    times = times_asked(SinglestepDPMSolver(order=order, steps=steps, t_end=0), Linear())[:full]
    gaps = Linear().log_snr(torch.tensor(times, dtype=torch.float64)).diff()
    torch.testing.assert_close(gaps, gaps[:1].expand_as(gaps), rtol=1e-9, atol=0)
    assert any(t != round(t) for t in times)


@pytest.mark.parametrize("grid", ["linspace", "quadratic"])
def test_on_other_grids_every_call_has_a_place_of_the_grid(grid):
    schedule = LinearContinuous()
    sampler = SinglestepDPMSolver(steps=14, grid=grid, t_end=0.01)
    places = sampler.grid.times(schedule, 14, end=0.01)[:-1]
    torch.testing.assert_close(torch.tensor(times_asked(sampler, schedule), dtype=torch.float64), places, rtol=1e-12, atol=0)


def test_explicit_times_are_those_of_the_calls():
    at = (999, 700, 650, 400, 120, 33, 12, 3)
    assert times_asked(SinglestepDPMSolver(steps=8, grid=Explicit(at=at), t_end=0), Linear()) == list(at)
    assert times_asked(SinglestepDPMSolver(steps=8, grid=Explicit(at=at), t_end=None), Linear()) == list(at)


def test_timesteps_serve_where_the_clean_image_is_the_end():
    sampler = SinglestepDPMSolver(steps=10, grid="leading", t_end=None)
    assert times_asked(sampler, Linear()) == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    with pytest.raises(ValidationError, match=r"grid 'leading' ends in the clean image, not at 0; give t_end: null, or grid: linspace"):
        SinglestepDPMSolver(grid="leading", t_end=0)


# Multistep.


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"steps": 5}, [1, 2, 3, 2, 1]),
        ({"steps": 3}, [1, 2, 1]),
        ({"steps": 2}, [1, 1]),
        ({"steps": 5, "lower_order_final": False}, [1, 2, 3, 3, 3]),
        ({"steps": 10}, [1, 2, *[3] * 8]),
        ({"steps": 5, "denoise_to_zero": True}, [1, 2, 3, 2, 1, 1]),
        ({"steps": 10, "t_end": None}, [1, 2, *[3] * 7, 1]),
        ({"steps": 5, "t_end": None, "lower_order_final": False}, [1, 2, 3, 3, 1]),
    ],
    ids=str,
)
def test_the_first_steps_are_of_lower_order_and_the_last_of_few(fields, taken):
    sampler = MultistepDPMSolver(order=3, **{"t_end": 0.01, **fields})
    steps = run(sampler, ExactDenoiser(mixture("m1"), LinearContinuous()))
    assert [step.order for step in steps] == taken
    assert [step.nfe for step in steps] == [step.i for step in steps]


# Every schedule.


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("steps", [1, 2, 5, 17])
def test_from_no_signal_the_first_step_is_of_order_1_and_all_calls_are_made(name, steps):
    taken = run(samplers.create(name, steps=steps), ExactDenoiser(mixture("m1"), ZeroTerminal(), target=V()))
    assert taken[0].order == 1
    assert taken[-1].nfe == steps
    assert taken[-1].x.isfinite().all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    ("schedule", "target"),
    [("cosine", "eps"), ("edm", "edm"), ("flow", "flow"), ("ve", "score"), ("zero-terminal-snr-continuous", "x0"), ("sigmoid", "v")],
)
def test_steps_are_finite_on_every_schedule(name, schedule, target):
    denoiser = ExactDenoiser(mixture("m1"), schedules.create(schedule), target=targets.create(target))
    for steps in (1, 3, 10):
        for fields in ({}, {"t_end": 0}):
            sampler = samplers.create(name, steps=steps, **fields)
            x = (STARTS * denoiser.schedule.sigma(denoiser.schedule.domain[1])).float()
            *_, last = sampler.trajectory(denoiser, x)
            assert last.x.isfinite().all()
            assert last.nfe == steps


@pytest.mark.parametrize("name", ["dpm-solver-3", "dpm-solver++-2m"])
@pytest.mark.parametrize("grid", ["log-snr", "uniform", Explicit(at=(999, 800, 500, 200, 10))], ids=str)
def test_noise_prediction_starts_a_step_later_where_there_is_no_signal(name, grid):
    denoiser = CountingDenoiser(ZeroTerminal(), target=Eps(allow_eps_at_zero_snr=True))
    with pytest.warns(UserWarning, match="sampling starts from t = 998$"):
        *_, last = run(samplers.create(name, steps=5, grid=grid), denoiser)
    assert denoiser.times[0] == 998
    assert last.x.isfinite().all()
    assert last.nfe == len(denoiser.times)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_of_the_order_in_their_name(name):
    sampler = samplers.create(name)
    assert str(sampler.order) in name
    assert sampler.predicts == ("x0" if "++" in name else "eps")
    assert isinstance(sampler, MultistepDPMSolver if name.endswith("m") else SinglestepDPMSolver)
    assert samplers.parse(sampler.model_dump()) == sampler


@pytest.mark.parametrize("fields", [{"order": 4}, {"order": 0}, {"steps": 0}, {"predicts": "v"}, {"solver_type": "heun"}])
def test_settings_that_make_no_sense_are_refused(fields):
    for solver in (SinglestepDPMSolver, MultistepDPMSolver):
        with pytest.raises(ValidationError, match=next(iter(fields))):
            solver(**fields)


def test_a_start_at_or_before_the_end_is_named():
    message = r"^start: 0 is not later than 0, where sampler 'dpm-solver-singlestep' ends; give more, or t_end: null$"
    with pytest.raises(ValueError, match=message):
        SinglestepDPMSolver(t_end=0).times(ExactDenoiser(mixture("m1"), Linear()), start=0.0)
