import pytest

from etsdm.analysis import timesteps
from etsdm.analysis.time_pairs import TimePairs
from etsdm.registry import schedules

LINEAR, CONTINUOUS, EDM = (schedules.create(name) for name in ("linear", "linear-continuous", "edm"))


def test_a_step_is_one_timestep_or_a_thousandth_of_the_horizon():
    assert [schedule.step for schedule in (LINEAR, CONTINUOUS, EDM)] == [1, 0.001, 0.08]


def test_timesteps_are_all_that_have_a_next_one():
    assert timesteps(LINEAR) == list(range(999))
    # Index i of a discrete schedule stands for t = (i + 1) / T of its continuous limit.
    assert timesteps(CONTINUOUS) == pytest.approx([(i + 1) / 1000 for i in range(999)])
    # Noise levels have equal distances in their logarithm, from EDM's sigma_min to sigma_max.
    assert timesteps(EDM, [0, 999]) == pytest.approx([0.002, 80])
    assert timesteps(EDM)[333] == pytest.approx(0.002 * 40_000 ** (1 / 3))
    assert timesteps(LINEAR, [7, 3]) == [7, 3]


def test_a_neighbour_that_a_rounding_misses_is_the_next_time_itself():
    pairs = TimePairs.of(CONTINUOUS, timesteps(CONTINUOUS))
    assert pairs.neighbour[:-1].tolist() == pairs.t[1:].tolist()
    assert pairs.neighbour[-1] == 1
    # A distance that is no grid step stays what it is.
    assert TimePairs.of(LINEAR, [3, 4], 0.75).neighbour.tolist() == [3.75, 4.75]


def test_the_last_neighbour_may_be_the_end_of_the_domain_and_no_more():
    assert TimePairs.of(LINEAR, [998]).neighbour.tolist() == [999]
    with pytest.raises(ValueError, match=r"^t: 0\.9995 .* 1\.0005, .*; give t in \[0, 0\.999\], or a smaller dt$"):
        TimePairs.of(CONTINUOUS, [0.5, 0.9995])
