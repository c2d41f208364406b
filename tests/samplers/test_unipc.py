import pytest
import torch
from pydantic import ValidationError

from etsdm.registry import schedules, targets
from etsdm.samplers import MultistepDPMSolver, UniPC
from etsdm.schedules import Linear, LinearContinuous, ZeroTerminal
from etsdm.targets import V
from etsdm.theory import ExactDenoiser, mixture

STARTS = torch.tensor([-2.0, -0.7, 0.1, 0.9, 2.2], dtype=torch.float64)[:, None]
BOTH = pytest.mark.parametrize("predicts", ["eps", "x0"])
VARIANTS = ["bh1", "bh2", "vary_coeff"]


def run(sampler, denoiser):
    return list(sampler.trajectory(denoiser, STARTS))


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"steps": 6}, [1, 2, 3, 3, 2, 1]),
        ({"steps": 6, "lower_order_final": False}, [1, 2, 3, 3, 3, 3]),
        ({"steps": 6, "denoise_to_zero": True}, [1, 2, 3, 3, 2, 1, 1]),
        ({"steps": 6, "t_end": None, "lower_order_final": False}, [1, 2, 3, 3, 3, 1]),
        ({"steps": 20}, [1, 2, *[3] * 16, 2, 1]),
        ({"steps": 1}, [1]),
    ],
    ids=str,
)
def test_every_step_costs_a_call_and_the_first_and_last_are_of_lower_order(fields, taken):
    steps = run(UniPC(order=3, **{"t_end": 0.01, **fields}), ExactDenoiser(mixture("m1"), LinearContinuous()))
    assert [step.order for step in steps] == taken
    assert [step.nfe for step in steps] == [step.i for step in steps]


@pytest.mark.parametrize(
    ("order", "steps", "taken"),
    [
        (4, 4, [1, 2, 3, 1]),
        (4, 5, [1, 2, 3, 2, 1]),
        (3, 3, [1, 2, 1]),
        (5, 6, [1, 2, 3, 4, 2, 1]),
        (4, 3, [1, 2, 1]),
        (4, 8, [1, 2, 3, 4, 4, 3, 2, 1]),
    ],
)
def test_orders_in_few_steps_are_those_of_the_authors_code(order, steps, taken):
    # There steps 1 to p - 1 have these orders, and step k from p on min(p, steps + 1 - k); fewer than p steps are not taken.
    trajectory = run(UniPC(order=order, steps=steps, t_end=0.01), ExactDenoiser(mixture("m1"), LinearContinuous()))
    assert [step.order for step in trajectory] == taken


def test_one_step_is_the_predictor_alone():
    # UniP-1 is DDIM, as DPM-Solver-1 is.
    denoiser = ExactDenoiser(mixture("m1"), LinearContinuous())
    (step,) = run(UniPC(steps=1, t_end=0.01), denoiser)
    (other,) = run(MultistepDPMSolver(steps=1, t_end=0.01, order=1), denoiser)
    torch.testing.assert_close(step.x, other.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("steps", [1, 2, 5, 17])
def test_from_no_signal_the_first_step_is_ddims_and_is_not_corrected(variant, steps):
    denoiser = ExactDenoiser(mixture("m1"), ZeroTerminal(), target=V())
    taken = run(UniPC(steps=steps, variant=variant), denoiser)
    assert taken[0].order == 1
    assert taken[-1].nfe == steps
    assert taken[-1].x.isfinite().all()
    torch.testing.assert_close(taken[-1].x, taken[-1].x0)


@BOTH
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("schedule", "target"), [("cosine", "eps"), ("edm", "edm"), ("flow", "flow"), ("ve", "score"), ("sigmoid", "v")])
def test_steps_are_finite_on_every_schedule(variant, predicts, schedule, target):
    denoiser = ExactDenoiser(mixture("m1"), schedules.create(schedule), target=targets.create(target))
    x = (STARTS * denoiser.schedule.sigma(denoiser.schedule.domain[1])).float()
    for steps in (1, 3, 10):
        *_, last = UniPC(steps=steps, variant=variant, predicts=predicts).trajectory(denoiser, x)
        assert last.x.isfinite().all()
        assert last.nfe == steps


def test_the_default_ends_in_the_clean_image_on_timesteps():
    steps = run(UniPC(steps=10), ExactDenoiser(mixture("m1"), Linear()))
    assert [step.t for step in steps] == pytest.approx([999 - 100 * k for k in range(10)])


@pytest.mark.parametrize("fields", [{"order": 0}, {"variant": "bh3"}, {"predicts": "v"}])
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        UniPC(**fields)
