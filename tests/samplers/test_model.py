"""The denoiser as solvers call it: clipping, and predictions of third-party denoisers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from doubles import ThirdParty

from etsdm.denoisers.time_point import TimePoint
from etsdm.randomness import per_sample_normal
from etsdm.samplers import DDIM
from etsdm.samplers.model import CountedModel
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, mixture

X = 3 * per_sample_normal(0, "test/x", range(4), (1,)).double()
EXACT = ExactDenoiser(mixture("m1"), Linear())
POINT = TimePoint.at(EXACT, 500.0)


def third_party(**attributes):
    """A denoiser that predicts x0 and eps and nothing else."""
    return ThirdParty(Linear(), lambda x, t: EXACT.predict(x, t).eps, **attributes)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"clip_x0": True}, {"dynamic_threshold": 0.5}], ids=["as it is", "clipped", "dynamic"])
@pytest.mark.parametrize("denoiser", [EXACT, third_party()], ids=["ours", "third-party"])
def test_a_prediction_is_consistent_with_x_and_combines_its_own_x0_and_eps(denoiser, settings):
    prediction = CountedModel(denoiser, {}, **settings)(X, POINT)
    close(POINT.alpha * prediction.x0 + POINT.sigma * prediction.eps, X)
    for a, b in ((0.3, -1.7), (1, 0), (0, 1), (2, 0)):
        close(prediction.combine(x0=a, eps=b), a * prediction.x0 + b * prediction.eps)


def test_x0_is_clipped_where_the_settings_say():
    x = torch.full((1, 1), 40.0, dtype=torch.float64)
    assert EXACT.predict(x, 500.0).x0 > 1
    assert CountedModel(EXACT, {}, clip_x0=True)(x, POINT).x0 == 1
    assert CountedModel(EXACT, {}, clip_x0=None)(x, POINT).x0 > 1  # a mixture's data lie anywhere
    assert CountedModel(EXACT, {}, dynamic_threshold=1.0)(x, POINT).x0 == 1  # divided by itself


def test_a_denoiser_that_predicts_x0_and_eps_alone_is_sampled_like_one_of_ours():
    steps = zip(DDIM(steps=5).trajectory(third_party(), X), DDIM(steps=5).trajectory(EXACT, X), strict=True)
    for found, expected in steps:
        close(found.x, expected.x)
        close(found.x0, expected.x0)


class Halved(ThirdParty):
    """A network whose output is in half precision, as under autocast."""

    def predict(self, x, t):
        prediction = EXACT.predict(x, t)
        return SimpleNamespace(x0=prediction.x0.bfloat16(), eps=prediction.eps.bfloat16())


@pytest.mark.parametrize("clip", [True, False])
def test_a_trajectory_keeps_the_dtype_of_its_noise(clip):
    for step in DDIM(steps=4, clip_x0=clip).trajectory(Halved(Linear()), X.float()):
        assert step.x.dtype == step.x0.dtype == torch.float32


def test_a_dynamic_threshold_is_as_precise_as_the_images():
    x0 = 5 * per_sample_normal(0, "test/x0", range(3), (1, 8, 8)).double()
    largest = torch.tensor(np.quantile(x0.flatten(1).abs().numpy(), 0.9, axis=1)).clamp(min=1).reshape(3, 1, 1, 1)
    assert largest.min() > 1
    expected = x0.clamp(-largest, largest) / largest
    denoiser = third_party()
    denoiser.predict = lambda x, t: SimpleNamespace(x0=x0, eps=x0)
    found = CountedModel(denoiser, {}, dynamic_threshold=0.9)(x0, TimePoint.at(denoiser, 0.0))
    torch.testing.assert_close(found.x0, expected, rtol=1e-15, atol=0)


def test_what_was_predicted_is_known_later_whatever_becomes_of_the_noise():
    noise = X.clone().requires_grad_()
    steps = list(DDIM(steps=3).trajectory(EXACT, noise))
    expected = [step.x0 for step in DDIM(steps=3).trajectory(EXACT, X)]
    with torch.no_grad():
        noise.zero_()
    for step, x0 in zip(steps, expected, strict=True):
        assert not step.x0.requires_grad
        close(step.x0, x0)
