from fractions import Fraction

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.condition_maps import ETSDM, Compose, Identity, Inverse, InverseSigmoid, LogSNR, Sigma
from etsdm.grids import Auto, Leading, Respaced, Trailing, UniformInF
from etsdm.registry import FieldProblem, format_errors, grids
from etsdm.schedules import EDM, Cosine, Flow, Linear, LinearContinuous, ZeroTerminal

every_grid = pytest.mark.parametrize("grid", [Leading(), Trailing(), Respaced()], ids=lambda grid: grid.type_name)
every_map = pytest.mark.parametrize("map_", [Identity(), Inverse(), InverseSigmoid(), Sigma(), LogSNR()], ids=lambda m: m.type_name)


def times(grid, total, n):
    return grid.times(Linear(timesteps=total), n).tolist()


@pytest.mark.parametrize(
    ("grid", "n", "expected"),
    [
        (Leading(), 1, [0]),
        (Leading(), 3, [6, 3, 0]),
        (Leading(), 4, [6, 4, 2, 0]),
        (Trailing(), 1, [9]),
        (Trailing(), 3, [9, 6, 2]),
        (Trailing(), 5, [9, 7, 5, 3, 1]),
        (Respaced(), 1, [9]),  # guided-diffusion: 0, where x would have to be clean
        (Auto(), 1, [9]),
        (Auto(), 3, [9, 6, 2]),
        (Respaced(), 2, [9, 0]),
        (Respaced(), 4, [9, 6, 3, 0]),
        (Respaced(), 5, [9, 7, 4, 2, 0]),  # 9 / 4 i = 0, 2.25, 4.5, 6.75, 9, halves to even
    ],
    ids=str,
)
def test_ten_timesteps_by_hand(grid, n, expected):
    assert times(grid, 10, n) == expected


@every_grid
@given(data=st.data(), total=st.integers(1, 1000))
def test_times_are_decreasing_timesteps(grid, data, total):
    n = data.draw(st.integers(1, total))
    found = grid.times(Linear(timesteps=total), n)
    assert found.dtype == torch.float64
    assert len(found) == n
    assert (found.diff() < 0).all()
    assert torch.equal(found, found.round())
    assert found[0] <= total - 1
    assert found[-1] >= 0


@every_grid
@pytest.mark.parametrize("total", [1, 2, 7, 1000])
def test_as_many_steps_as_timesteps_visit_every_one(grid, total):
    assert times(grid, total, total) == list(reversed(range(total)))


@pytest.mark.parametrize(("grid", "spacing"), [(Leading(), "leading"), (Trailing(), "trailing")], ids=["leading", "trailing"])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 50, 250, 999, 1000])
def test_times_are_those_of_diffusers(grid, spacing, n):
    scheduler = DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
    scheduler.set_timesteps(n)
    assert times(grid, 1000, n) == scheduler.timesteps.tolist()


@pytest.mark.parametrize("n", [2, 3, 10, 20, 21, 25, 50, 100, 163, 250, 334, 500, 999, 1000])
def test_respacing_is_that_of_guided_diffusion(n):
    # Its `space_timesteps` for one section: a stride of (T - 1) / (n - 1), added up, each sum rounded.
    position, expected = 0.0, []
    for _ in range(n):
        expected.append(round(position))
        position += 999 / (n - 1)
    assert times(Respaced(), 1000, n) == expected[::-1]


def test_respacing_into_21_steps_is_not_that_of_exact_arithmetic():
    # The tenth multiple of 49.95 is 499.5, which a sum of roundings misses.
    exact = [round(Fraction(999 * i, 20)) for i in reversed(range(21))]
    assert times(Respaced(), 1000, 21) != exact


def test_trailing_starts_from_the_noisiest_timestep_and_leading_does_not():
    assert times(Trailing(), 1000, 50)[0] == 999
    assert times(Leading(), 1000, 50)[0] == 980


@every_grid
@pytest.mark.parametrize("n", [0, -1, 11])
def test_a_number_of_steps_that_does_not_fit_is_refused(grid, n):
    with pytest.raises(ValueError, match=rf"^steps: {n} .* 10 .*; give 1 to 10$"):
        times(grid, 10, n)


@every_grid
def test_a_start_takes_away_the_timesteps_above_it(grid):
    schedule = Linear(timesteps=10)
    assert grid.times(schedule, 5, start=4.0).tolist() == [4, 3, 2, 1, 0]
    assert grid.times(schedule, 3, start=6.0).tolist() == grid.times(Linear(timesteps=7), 3).tolist()
    with pytest.raises(ValueError, match=r"^steps: 6 .* 5 .* 4; give 1 to 5$"):
        grid.times(schedule, 6, start=4.0)
    with pytest.raises(ValueError, match=r"^start: 10 .* 'linear'; give 0 to 9$"):
        grid.times(schedule, 3, start=10.0)


@every_grid
def test_a_grid_of_timesteps_ends_in_the_clean_image(grid):
    message = f"t_end: grid '{grid.type_name}' ends in the clean image, not at 2; leave t_end out, or give linspace"
    with pytest.raises(ValueError, match=f"^{message}$"):
        grid.times(Linear(timesteps=10), 3, end=2.0)


@every_map
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), ZeroTerminal(), LinearContinuous(), Flow(), EDM()], ids=lambda s: s.type_name)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 37, 250])
def test_conditions_are_equally_spaced_from_the_last_time_on(map_, schedule, n):
    found = UniformInF(map=map_).times(schedule, n)
    assert found.dtype == torch.float64
    assert found.shape == (n,)
    assert found[0] == schedule.domain[1]
    assert (found.diff() < 0).all()
    assert (schedule.sigma(found) > 0).all()
    gaps = map_(found, schedule).diff()
    assert torch.allclose(gaps, gaps[:1].expand_as(gaps), rtol=1e-6, atol=0)


def test_times_uniform_in_their_inverse_by_hand():
    # 1/t from 1/10 to 1 in five points, t = index + 1.
    found = UniformInF(map=Inverse()).times(Linear(timesteps=10), 5)
    assert found.tolist() == pytest.approx([1 / (0.1 + 0.9 * i / 4) - 1 for i in range(5)], rel=1e-12, abs=1e-12)


def test_times_uniform_in_noise_level_by_hand():
    # sigma = t on flow's [0, 1]; at 0, the clean image, no step starts.
    assert UniformInF(map=Sigma()).times(Flow(), 4).tolist() == pytest.approx([1, 0.75, 0.5, 0.25])


def test_a_continuous_grid_uniform_in_time_stops_before_the_clean_image():
    assert UniformInF(map=Identity()).times(LinearContinuous(), 4).tolist() == [1, 0.75, 0.5, 0.25]


def test_uniform_in_time_visits_every_timestep_of_a_discrete_schedule():
    assert UniformInF(map=Identity()).times(Linear(), 1000).tolist() == list(reversed(range(1000)))


def test_a_grid_uniform_in_one_over_t_is_mostly_of_little_noise():
    # Of 1/t uniform on [1/1000, 1] a share (1 - 1/20) / (1 - 1/1000) = .951 has t up to 20, and .009 has t above 100.
    t = UniformInF(map=Inverse()).times(Linear(), 100_000) + 1
    assert (t <= 20).double().mean().item() == pytest.approx(0.951, abs=5e-4)
    assert (t > 100).double().mean().item() == pytest.approx(0.009, abs=5e-4)


@pytest.mark.parametrize("grid", ["leading", "trailing", "respaced"])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 50, 999, 1000])
def test_timesteps_of_a_continuous_schedule_are_a_thousandth_of_its_time_later_than_the_indices(grid, n):
    # The discrete schedule's index i stands for t = (i + 1) / 1000.
    indices = grids.create(grid).times(Linear(), n)
    torch.testing.assert_close(grids.create(grid).times(LinearContinuous(), n), (indices + 1) / 1000, rtol=1e-15, atol=0)
    torch.testing.assert_close(grids.create(grid).times(EDM(), n), (indices + 1) * 0.08, rtol=1e-15, atol=0)
    if n <= 50:
        torch.testing.assert_close(
            grids.create(grid).times(LinearContinuous(), n, start=0.3), grids.create(grid).times(Linear(), n, start=299) / 1000 + 0.001
        )


def test_more_steps_than_timesteps_are_refused_on_a_continuous_schedule_too():
    with pytest.raises(ValueError, match=r"^steps: 1001 .* 1000 .*; give 1 to 1000$"):
        grids.create("leading").times(LinearContinuous(), 1001)
    with pytest.raises(ValueError, match=r"^start: 0.0005 .* 0.001; give 0.001 or more$"):
        grids.create("leading").times(LinearContinuous(), 1, start=0.0005)


def test_more_times_than_the_schedule_can_tell_apart_are_refused():
    with pytest.raises(ValueError, match=r"^steps: 2 .* 'uniform-in-f' .*; give fewer$"):
        UniformInF(map=Inverse()).times(Linear(timesteps=1), 2)


@pytest.mark.parametrize("n", [0, -3])
def test_an_even_grid_has_steps(n):
    with pytest.raises(ValueError, match=rf"^steps: {n} .*; give 1 or more$"):
        UniformInF(map=Inverse()).times(Linear(), n)


@pytest.mark.parametrize("map_", [ETSDM(), Compose(maps=(ETSDM(), Inverse()))], ids=repr)
def test_a_grid_even_in_a_map_that_shares_is_refused(map_):
    with pytest.raises(ValidationError) as error:
        UniformInF(map=map_)
    message = f"{map_.type_name!r} shares conditions between times and has no inverse; give a remap"
    assert format_errors(error.value) == [FieldProblem(("map",), message)]


def test_its_map_may_be_named():
    assert grids.create("uniform-in-f", map="log-snr") == UniformInF(map=LogSNR())


def test_a_uniform_grid_has_no_more_steps_than_timesteps():
    with pytest.raises(ValueError, match=r"^steps: 1001 .* 'uniform' .*; give 1 to 1000$"):
        grids.create("uniform").times(Linear(), 1001)
    with pytest.raises(ValueError, match=r"^steps: 20 .* 'uniform' .*; give 1 to 11$"):
        grids.create("uniform").times(Linear(), 20, start=10)
    assert grids.create("uniform").times(Linear(), 1000).tolist() == pytest.approx(list(range(999, -1, -1)), abs=1e-9)


def test_explicit_times_that_are_all_left_out_are_named():
    with pytest.raises(ValueError, match=r"^at: .* 'explicit' .*; give some that do$"):
        grids.create("explicit", at=[900, 500]).times(Linear(), 2, start=300)
    with pytest.raises(ValueError, match=r"^t_end: 2000 .* 'linear'; give 0 to 999$"):
        grids.create("explicit", at=[900, 500]).times(Linear(), 2, end=2000)
