"""Plans against the calls that the network really gets, and against numbers worked out by hand."""

import json
import math

import pytest
import torch
from doubles import CountingDenoiser

from etsdm.condition_maps import ETSDM
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import PartError
from etsdm.randomness import per_sample_normal
from etsdm.registry import samplers
from etsdm.samplers import DDIM, DDPM, SinglestepDPMSolver
from etsdm.schedules import Linear, LinearContinuous
from etsdm.theory import ExactDenoiser, mixture

FEW = {"ddpm": {"steps": 5}}


def deciding(name):
    return samplers.create(name, **FEW.get(name, {}))


@pytest.mark.parametrize("schedule", [Linear(), LinearContinuous()], ids=str)
@pytest.mark.parametrize("name", samplers.names())
def test_the_plan_of_every_sampler_is_what_its_network_is_asked(name, schedule):
    sampler = deciding(name)
    denoiser = CountingDenoiser(schedule)
    plan = sampler.plan(denoiser)
    assert denoiser.times == []
    steps = list(sampler.trajectory(denoiser, per_sample_normal(0, "test/noise", range(2), (1,)).double()))
    assert [call.t for call in plan.calls] == denoiser.times
    assert plan.nfe == steps[-1].nfe
    assert plan.steps == steps[-1].n
    assert [call.number for call in plan.calls] == list(range(1, plan.nfe + 1))
    asked_by = {call.step: call.order for call in plan.calls}
    assert all(asked_by[step.i] == step.order for step in steps if step.i in asked_by)


def test_a_row_is_what_the_schedule_and_the_map_say():
    denoiser = CountingDenoiser(Linear(), condition_map=ETSDM())
    plan = DDIM(steps=20, grid="trailing").plan(denoiser)
    row = plan.calls[-1]  # steps of 50 timesteps from 999 down: the last one starts from 49
    # abar of DDPM's linear schedule at index 49, by its own recurrence.
    abar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(50))
    assert (row.number, row.step, row.t, row.f) == (20, 20, 49, 40)
    assert (row.alpha, row.sigma) == pytest.approx((math.sqrt(abar), math.sqrt(1 - abar)), rel=1e-12)
    assert row.log_snr == pytest.approx(math.log(abar / (1 - abar)), rel=1e-12)


def test_a_spec_is_enough_and_another_number_of_steps_can_be_tried(tiny_spec):
    spec = tiny_spec(condition_map="e-tsdm")
    assert isinstance(spec, DenoiserSpec)
    assert DDIM().plan(spec).nfe == 50
    plan = DDIM().plan(spec, 4)
    assert [call.t for call in plan.calls] == [999, 749, 499, 249]
    assert plan.end is None
    with pytest.raises(PartError, match=r"^steps: 0 .* 'ddim'; give 1 or more$"):
        DDIM().plan(spec, 0)


def test_the_end_of_a_solver_that_stops_at_the_first_noisy_time_is_that_time():
    # t_end is 0, where a continuous schedule has no noise and no log-SNR; its first noisy time is a thousandth of the horizon.
    denoiser = ExactDenoiser(mixture("m1"), LinearContinuous())
    assert SinglestepDPMSolver(order=2, steps=4, t_end=0).plan(denoiser).end == 0.001


def test_the_end_is_said_and_the_call_for_the_clean_image_is_counted():
    denoiser = CountingDenoiser(LinearContinuous())
    short = DDIM(steps=3, grid="uniform", t_end=0.1)
    assert short.plan(denoiser)[1:] == (3, 0.1, pytest.approx(denoiser.schedule.snr(0.1).item() ** -0.5))
    on = DDIM(steps=3, grid="uniform", t_end=0.1, denoise_to_zero=True).plan(denoiser)
    assert (on.steps, on.end, on.nfe, on.calls[-1].t) == (4, None, 4, 0.1)


def test_a_plan_from_a_later_start():
    assert [call.t for call in DDIM(steps=2, grid="linspace").plan(CountingDenoiser(Linear()), start=300).calls] == [300, 0]


def test_a_plan_is_json_also_where_there_is_no_signal(tiny_spec):
    spec = tiny_spec(schedule="zero-terminal-snr", target="v")
    plan = DDPM(steps=2).plan(spec)
    assert (plan.calls[0].alpha, plan.calls[0].log_snr) == (0, -math.inf)
    record = json.loads(json.dumps(plan.record(), allow_nan=False))
    assert (record["nfe"], record["end"], record["calls"][0]["log_snr"], record["calls"][0]["sigma"]) == (2, None, None, 1)


def test_a_plan_draws_nothing_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    DDPM(steps=4).plan(CountingDenoiser(Linear()))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_schedule_alone_has_a_plan_which_is_that_of_noise_prediction_without_a_map():
    alone = SinglestepDPMSolver(order=3, steps=20).plan(Linear(), 50)
    assert alone == SinglestepDPMSolver(order=3, steps=50).plan(ExactDenoiser(mixture("m1"), Linear()))
    assert alone.nfe == 50
    assert all(call.f == call.t for call in alone.calls)
