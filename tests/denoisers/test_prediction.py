"""x0, eps, v and the score as sums of x and F, against the definition of each target."""

import math

import pytest
import torch

from etsdm.denoisers.prediction import Moment, Prediction, moment_at, predicted
from etsdm.randomness import per_sample_normal
from etsdm.registry import targets
from etsdm.samplers import Parts
from etsdm.schedules import Linear

X0, EPS = per_sample_normal(0, "test/x0", range(3), (1, 4, 4)).double(), per_sample_normal(0, "test/eps", range(3), (1, 4, 4)).double()
every_target = pytest.mark.parametrize("target", targets.names())
every_time = pytest.mark.parametrize("t", [59.0, torch.tensor(59.0), torch.tensor([0.0, 59.0, 700.0])], ids=["number", "one", "each"])


def said(target, t):
    """What an output says that knows x0 and eps, at x made of them."""
    asked = Parts(Linear(), targets.create(target))
    alpha, sigma = (level.reshape(-1, 1, 1, 1) for level in Linear().alpha_sigma(t))
    return predicted(asked, alpha * X0 + sigma * EPS, t, asked.target.training_target(X0, EPS, alpha, sigma)), alpha, sigma


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_target
@every_time
def test_an_output_that_knows_the_truth_says_it_in_every_space(target, t):
    prediction, alpha, sigma = said(target, t)
    close(prediction.x0, X0)
    close(prediction.eps, EPS)
    close(prediction.v, alpha * EPS - sigma * X0)
    close(prediction.score, -EPS / sigma)


@every_target
@every_time
@pytest.mark.parametrize(("a", "b"), [(0.7, -1.3), (2.0, 0), (0, 0.5), (0, 1), (1, 0)])
def test_a_mixture_is_one_sum_of_x0_and_eps(target, t, a, b):
    close(said(target, t)[0].mixed(a, b), a * X0 + b * EPS)


@every_target
@every_time
def test_what_is_done_to_a_mixture_leaves_the_prediction_as_it_was(target, t):
    prediction, *_ = said(target, t)
    x, output = prediction.x.clone(), prediction.output.clone()
    for a, b in ((1, 0), (0, 1), (0.3, 0.4)):
        prediction.mixed(a, b).zero_()
    assert torch.equal(prediction.x, x)
    assert torch.equal(prediction.output, output)


def test_of_an_infinite_part_with_weight_0_nothing_is_seen():
    without_noise = Moment(1.0, 0.0, 1.0, math.inf, -math.inf, 1.0, 0.0)  # of target x0 at sigma = 0
    prediction = Prediction(X0, X0, without_noise, 1.0, 0.0)
    assert torch.equal(prediction.mixed(2.0, 0), 2 * X0)


def test_a_moment_holds_the_coefficients_of_the_target_as_numbers():
    asked = Parts(Linear(), targets.create("eps"))
    alpha, sigma = (level.item() for level in Linear().alpha_sigma(59.0))
    assert moment_at(asked, 59.0) == pytest.approx((1, 1 / alpha, -sigma / alpha, 0, 1, alpha, sigma), rel=1e-15)


@every_target
def test_everything_is_in_the_dtype_of_x_whatever_that_of_the_output(target):
    for t in (59.0, torch.tensor(59.0), torch.tensor([0.0, 59.0, 700.0])):
        said = predicted(Parts(Linear(), targets.create(target)), X0.float(), t, EPS.float().bfloat16())
        for found in (said.x0, said.eps, said.v, said.score, said.mixed(0.3, 0.4), said.mixed(1, 0), said.mixed(0, 1)):
            assert found.dtype == torch.float32


def test_in_half_precision_the_output_is_added_to_x_in_full():
    prediction = Prediction(X0.float(), EPS.bfloat16(), Moment(1.0, 0.5, 2.0, 0.0, 1.0, 0.6, 0.8), 0.6, 0.8)
    assert prediction.x0.dtype == torch.float32
    torch.testing.assert_close(prediction.x0, 0.5 * X0.float() + 2 * EPS.bfloat16().float())
