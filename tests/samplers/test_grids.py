from fractions import Fraction

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from etsdm.registry import grids
from etsdm.samplers import Leading, Respaced, Trailing
from etsdm.schedules import Linear

every_grid = pytest.mark.parametrize("grid", [grids.create(name) for name in grids], ids=list(grids))


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
        (Respaced(), 1, [0]),
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
    with pytest.raises(ValueError, match=rf"^steps: {n} steps do not fit a schedule of 10 timesteps; give 1 to 10$"):
        times(grid, 10, n)
