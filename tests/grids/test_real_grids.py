"""Grids of real times, on every kind of schedule, with and without a start and an end."""

import re

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.grids import Explicit, Karras, Linspace, LogSNRGrid, QuadraticGrid, UniformGrid
from etsdm.registry import FieldProblem, format_errors
from etsdm.samplers import Euler
from etsdm.schedules import EDM, VE, VPEDM, Cosine, CosineContinuous, Flow, Linear, LinearContinuous, ZeroTerminal
from etsdm.theory import ExactDenoiser, mixture

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # diffusers' own, with numpy 2
GRIDS = [UniformGrid(), Linspace(), QuadraticGrid(), LogSNRGrid(), Karras()]
TEN = Linear(timesteps=10)
DISCRETE = [
    TEN,
    Linear(),
    Cosine(timesteps=50),
    ZeroTerminal(),
    ZeroTerminal(base=TEN),
    Linear(timesteps=1),
    ZeroTerminal(base=Linear(timesteps=2)),
]
CONTINUOUS = [LinearContinuous(), CosineContinuous(), VPEDM(), EDM(), VE(), Flow()]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.type_name)


@pytest.mark.parametrize(
    ("grid", "schedule", "n", "end", "expected"),
    [
        (UniformGrid(), TEN, 1, None, [9]),
        (UniformGrid(), TEN, 5, None, [9, 7, 5, 3, 1]),  # the clean image is at -1
        (UniformGrid(), TEN, 4, None, [9, 6.5, 4, 1.5]),
        (UniformGrid(), TEN, 4, 1, [9, 7, 5, 3, 1]),
        (UniformGrid(), Flow(), 4, None, [1, 0.75, 0.5, 0.25]),
        (UniformGrid(), Flow(), 4, 0.2, [1, 0.8, 0.6, 0.4, 0.2]),
        (UniformGrid(), Flow(), 2, 0, [1, 0.5, 0]),
        (Linspace(), TEN, 1, None, [9]),
        (Linspace(), TEN, 4, None, [9, 6, 3, 0]),
        (Linspace(), TEN, 2, 4, [9, 6.5, 4]),
        (Linspace(), Flow(), 4, None, [1, 0.667, 0.334, 0.001]),  # a thousandth is the first time with noise
        (Linspace(), EDM(), 2, None, [80, 0.002]),  # as Karras et al. do
        (Linspace(), VE(), 3, None, [1, 0.5, 0]),  # noisy at 0
        (QuadraticGrid(), TEN, 4, None, [9, 4, 1, 0]),
        (QuadraticGrid(), Flow(), 3, 0.01, [1, 0.49, 0.16, 0.01]),
        (LogSNRGrid(), EDM(sigma_max=2), 4, None, [2, 0.2, 0.02, 0.002]),
        (LogSNRGrid(), EDM(sigma_max=1), 2, 0.01, [1, 0.1, 0.01]),
        (LogSNRGrid(), EDM(sigma_max=2), 2, 0, [2, 0.002, 0]),  # log-SNR has no value at the clean image
        (LogSNRGrid(), VE(), 5, None, [1, 0.75, 0.5, 0.25, 0]),  # its log-SNR is linear in time
        (LogSNRGrid(), Flow(), 1, None, [1]),
        (LogSNRGrid(), Flow(), 3, 0.001, [1, 0.999, 0.5, 0.001]),  # sigma/alpha from 999 to 1/999, after a step from no signal
        (Karras(rho=1), EDM(sigma_max=3), 2, 1, [3, 2, 1]),
        (Karras(rho=2), EDM(sigma_max=9), 3, 1, [9, 49 / 9, 25 / 9, 1]),  # roots 3, 7/3, 5/3, 1
        (Karras(rho=0.5), EDM(sigma_max=5), 2, 1, [5, 13**0.5, 1]),  # squares 25, 13, 1
        (Explicit(at=(9, 4.5, 2)), TEN, 3, None, [9, 4.5, 2]),
        (Explicit(at=(9, 4.5, 2)), TEN, 3, 0, [9, 4.5, 2, 0]),
        (Explicit(at=(9, 4.5, 2)), TEN, 2, 2, [9, 4.5, 2]),
    ],
    ids=str,
)
def test_times_by_hand(grid, schedule, n, end, expected):
    found = grid.times(schedule, n, end=end)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_grid_of_karras_is_that_of_its_article():
    # Eq. 5 with rho = 7, from sigma 80 to 0.002.
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert Karras().times(EDM(), 18).tolist() == pytest.approx(expected, rel=1e-12)


@every_grid
@given(data=st.data(), schedule=st.sampled_from([*DISCRETE, *CONTINUOUS]))
@settings(max_examples=60)
def test_every_number_of_steps_up_to_the_horizon_has_its_times(grid, schedule, data):
    total = int(schedule.horizon) if schedule.is_discrete else 1000
    n = data.draw(st.sampled_from(sorted({1, 2, total - 1, total} & set(range(1, total + 1)))) | st.integers(1, total))
    found = grid.times(schedule, n)
    assert found.shape == (n,)
    assert found[0] == schedule.domain[1]
    assert (found.diff() < 0).all()
    assert found[-1] >= schedule.domain[0]
    assert (schedule.sigma(found) > 0).all()


@every_grid
@given(data=st.data(), schedule=st.sampled_from([Linear(), ZeroTerminal(), *CONTINUOUS]))
@settings(max_examples=40)
def test_a_start_and_an_end_are_met_exactly(grid, schedule, data):
    low, high = schedule.domain
    end, start = sorted(data.draw(st.tuples(st.integers(0, 400), st.integers(500, 1000))))
    start, end = low + (high - low) * start / 1000, low + (high - low) * end / 1000
    n = data.draw(st.integers(1, 50))
    found = grid.times(schedule, n, start=start, end=end)
    assert found.shape == (n + 1,)
    assert (found[0], found[-1]) == (start, end)
    assert (found.diff() < 0).all()
    assert grid.times(schedule, n, start=start)[0] == start


@pytest.mark.parametrize("n", [1, 2, 7, 50, 999, 1000])
def test_linspace_is_that_of_diffusers(n):
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="linspace")
    scheduler.set_timesteps(n)
    expected = scheduler.timesteps.double()
    # Of one step theirs, numpy's, is the first time of all, where hardly anything is left to remove.
    torch.testing.assert_close(Linspace().times(Linear(), n), expected if n > 1 else expected + 999, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n", [2, 7, 50])
def test_the_grid_of_karras_is_that_of_diffusers(n):
    scheduler = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(n)
    found = Karras().times(Linear(), n)
    torch.testing.assert_close(found, scheduler.timesteps.double(), rtol=0, atol=0.02)  # theirs is float32
    torch.testing.assert_close((-Linear().log_snr(found) / 2).exp(), scheduler.sigmas[:-1].double(), rtol=1e-3, atol=0)


def test_times_between_timesteps_reach_the_condition_as_they_are():
    denoiser = ExactDenoiser(mixture("m1"), Linear())
    found = Euler(steps=7).path(denoiser)
    assert any(point != round(point) for point in found[:-1])
    for point in found[:-1]:
        assert (point.alpha, point.sigma) == tuple(value.item() for value in Linear().alpha_sigma(float(point)))


@every_grid
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "steps: 0 is no number of steps; give 1 or more"),
        ({"start": 1.5}, "start: 1.5 is outside the times of schedule 'flow'; give 0 to 1"),
        ({"end": -0.1}, "t_end: -0.1 is outside the times of schedule 'flow'; give 0 to 1"),
        ({"start": 0.0}, "start: at 0 the image is clean already; give more than 0"),
        ({"start": 0.3, "end": 0.3}, "t_end: 0.3 does not lie before the start 0.3; give less"),
    ],
    ids=str,
)
def test_what_no_grid_can_do_is_refused(grid, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        grid.times(Flow(), **{"n": 3, **options})


def test_explicit_times_have_the_given_start_and_end():
    grid = Explicit(at=(0.9, 0.6, 0.3, 0.1))
    assert grid.times(Flow(), 2, start=0.7, end=0.1).tolist() == [0.6, 0.3, 0.1]
    with pytest.raises(ValueError, match=r"^steps: 3 .* 4 .* 'explicit'; give 4$"):
        grid.times(Flow(), 3)
    with pytest.raises(ValueError, match=r"^at: 0.9 .* 'edm'; give 0 to 0.5$"):
        grid.times(EDM(sigma_max=0.5), 4)


def test_explicit_times_that_do_not_fall_are_refused():
    with pytest.raises(ValidationError) as error:
        Explicit(at=(3, 1, 2))
    assert format_errors(error.value) == [FieldProblem(("at", 2), "2 does not lie before 1; give decreasing times")]
