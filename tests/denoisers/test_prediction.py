"""x0, eps, v and the score as sums of x and F, against the definition of each target."""

import math

import pytest
import torch

from etsdm.condition_maps import ETSDM
from etsdm.denoisers.config import ScheduleConfig
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.time_point import TimeBatch, TimePoint
from etsdm.randomness import per_sample_normal
from etsdm.registry import targets
from etsdm.schedules import Linear

X0, EPS = per_sample_normal(0, "test/x0", range(3), (1, 4, 4)).double(), per_sample_normal(0, "test/eps", range(3), (1, 4, 4)).double()
every_target = pytest.mark.parametrize("target", targets.names())
every_time = pytest.mark.parametrize("t", [59.0, torch.tensor(59.0), torch.tensor([0.0, 59.0, 700.0])], ids=["number", "one", "each"])


def ideal(target, t):
    """The prediction of the ideal output for x0 and eps, at x made of them, with alpha and sigma."""
    config = ScheduleConfig(Linear(), targets.create(target))
    alpha, sigma = (level.reshape(-1, 1, 1, 1) for level in Linear().alpha_sigma(t))
    return Prediction.from_output(config, alpha * X0 + sigma * EPS, t, config.target.training_target(X0, EPS, alpha, sigma)), alpha, sigma


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_target
@every_time
def test_the_ideal_output_gives_x0_eps_v_and_the_score(target, t):
    prediction, alpha, sigma = ideal(target, t)
    close(prediction.x0, X0)
    close(prediction.eps, EPS)
    close(prediction.v, alpha * EPS - sigma * X0)
    close(prediction.score, -EPS / sigma)


@every_target
@every_time
@pytest.mark.parametrize(("a", "b"), [(0.7, -1.3), (2.0, 0), (0, 0.5), (0, 1), (1, 0)])
def test_a_combination_is_the_sum_of_x0_and_eps(target, t, a, b):
    close(ideal(target, t)[0].combine(x0=a, eps=b), a * X0 + b * EPS)


@every_target
@every_time
def test_a_combination_is_a_new_tensor(target, t):
    prediction, *_ = ideal(target, t)
    x, output = prediction.x.clone(), prediction.output.clone()
    for a, b in ((1, 0), (0, 1), (0.3, 0.4)):
        prediction.combine(x0=a, eps=b).zero_()
    assert torch.equal(prediction.x, x)
    assert torch.equal(prediction.output, output)


def test_an_infinite_part_with_coefficient_0_is_left_out():
    without_noise = TimeBatch(1.0, 0.0, 1.0, 0.0, 1.0, math.inf, -math.inf)  # of target x0 at sigma = 0
    assert torch.equal(Prediction(X0, X0, without_noise).combine(x0=2.0, eps=0), 2 * X0)


def test_a_time_point_has_the_coefficients_of_the_target_as_numbers():
    alpha, sigma = (value.item() for value in Linear().alpha_sigma(59.0))
    point = TimePoint.at(ScheduleConfig(Linear(), targets.create("eps"), ETSDM()), 59.0)
    assert point == 59.0
    assert (point.c_in, point.c_skip, point.c_out, point.e_skip, point.e_out) == pytest.approx(
        (1, 1 / alpha, -sigma / alpha, 0, 1), rel=1e-15
    )
    assert (point.alpha, point.sigma, point.condition) == (alpha, sigma, 40)
    assert point.lam == pytest.approx(math.log(alpha / sigma), rel=1e-12)


def test_the_points_of_a_path_are_those_of_its_times_one_by_one():
    config = ScheduleConfig(Linear(), targets.create("v"), ETSDM())
    times = torch.tensor([999.0, 312.5, 59.0, 0.0], dtype=torch.float64)
    names = ("alpha", "sigma", "lam", "condition", "c_in", "c_skip", "c_out", "e_skip", "e_out")
    for point, t in zip(TimePoint.path(config, times), times.tolist(), strict=True):
        alone = TimePoint.at(config, t)
        assert point == alone == t
        assert [getattr(point, name) for name in names] == pytest.approx([getattr(alone, name) for name in names], rel=1e-14)


@pytest.mark.parametrize(
    "other", [{"target": targets.create("v")}, {"condition_map": ETSDM()}, {"schedule": Linear(timesteps=500)}], ids=str
)
def test_the_numbers_of_another_configuration_are_not_taken_for_ones_own(other):
    config = ScheduleConfig(Linear())
    mine, foreign = TimePoint.at(config, 59.0), TimePoint.at(config._replace(**other), 59.0)
    x, output = X0, EPS
    assert torch.equal(Prediction.from_output(config, x, foreign, output).x0, Prediction.from_output(config, x, mine, output).x0)
    assert not foreign.belongs_to(config)
    assert mine.belongs_to(config)


@every_target
def test_everything_is_in_the_dtype_of_x_whatever_that_of_the_output(target):
    for t in (59.0, torch.tensor(59.0), torch.tensor([0.0, 59.0, 700.0])):
        config = ScheduleConfig(Linear(), targets.create(target))
        made = Prediction.from_output(config, X0.float(), t, EPS.float().bfloat16())
        sums = [made.combine(x0=a, eps=b) for a, b in ((0.3, 0.4), (1, 0), (0, 1))] if isinstance(t, float) else []
        for found in (made.x0, made.eps, made.v, made.score, *sums):
            assert found.dtype == torch.float32


def test_in_half_precision_the_output_is_added_to_x_in_full():
    prediction = Prediction(X0.float(), EPS.bfloat16(), TimeBatch(0.6, 0.8, 1.0, 0.5, 2.0, 0.0, 1.0))
    assert prediction.x0.dtype == torch.float32
    torch.testing.assert_close(prediction.x0, 0.5 * X0.float() + 2 * EPS.bfloat16().float())
