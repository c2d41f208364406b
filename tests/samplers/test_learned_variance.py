import math
from types import SimpleNamespace

import pytest
import torch
from doubles import ThirdParty

from etsdm.samplers import DDPM
from etsdm.schedules import Linear

T = 10
X = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64).reshape(3, 1, 1, 1)


class Learned(ThirdParty):
    """Predicts x0 = 0, and a variance that is given as a share f = (logit + 1)/2 of the way from posterior to beta, in logarithms."""

    def __init__(self, logit):
        super().__init__(Linear(timesteps=T))
        self.logit = logit

    def predict(self, x, t):
        logit = None if self.logit is None else torch.full_like(x, self.logit)
        return SimpleNamespace(**vars(super().predict(x, t)), variance_logit=logit)


class Ones:
    def draw(self, shape):
        return torch.ones(3, *shape)


def drawn(logit, variance="learned"):
    return [step.x for step in DDPM(variance=variance, clip_x0=False).trajectory(Learned(logit), X, Ones())]


@pytest.mark.parametrize(("logit", "variance"), [(1.0, "beta"), (-1.0, "posterior")])
def test_the_ends_of_what_can_be_learned_are_the_two_fixed_variances(logit, variance):
    for found, expected in zip(drawn(logit), drawn(None, variance), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_half_way_the_variance_is_the_geometric_mean():
    schedule = Linear(timesteps=T)
    alpha_bar, before = schedule.alpha_bar(9).item(), schedule.alpha_bar(8).item()
    beta = 1 - alpha_bar / before
    posterior = beta * (1 - before) / (1 - alpha_bar)
    mean = math.sqrt(alpha_bar / before) * (1 - before) / (1 - alpha_bar) * X
    torch.testing.assert_close(drawn(0.0)[0], mean + (beta * posterior) ** 0.25, rtol=1e-12, atol=1e-12)


def test_the_last_step_adds_no_noise():
    assert torch.equal(drawn(0.3)[-1], torch.zeros_like(X))


def test_a_network_that_learns_no_variance_is_refused():
    with pytest.raises(ValueError, match=r"^variance: 'learned', .*; give beta or posterior$"):
        drawn(None)
