import pytest
import torch
from torch import nn

from etsdm.denoiser import Denoiser
from etsdm.losses import MSE
from etsdm.randomness import normal
from etsdm.registry import targets
from etsdm.schedules import Linear

T = torch.tensor([0.0, 59.0, 700.0], dtype=torch.float64)
X0 = normal(0, "test/x0", range(3), (1, 2, 2)).clamp(-1, 1)
EPS = normal(0, "test/eps", range(3), (1, 2, 2))
every_target = pytest.mark.parametrize("target", list(targets))


class Doubling(nn.Module):
    """A network that answers with twice its input, or with what it was told."""

    def __init__(self, answer=None):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.answer = answer

    def forward(self, x, time):
        return self.scale * x if self.answer is None else self.answer


@pytest.fixture
def doubling(tiny_spec):
    return lambda answer=None, **parts: Denoiser(tiny_spec(**parts), Doubling(answer))


def coefficients():
    return Linear().alpha(T).reshape(3, 1, 1, 1).float(), Linear().sigma(T).reshape(3, 1, 1, 1).float()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_one_image_of_one_pixel_by_hand(doubling):
    # Linear, t = 0: alpha^2 = 0.9999, sigma = 0.01. x = alpha 0.5 + 0.01 (-1) = 0.489975, and (2 x + 1)^2 = 3.920201.
    x0, eps = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -1.0)
    found = MSE().per_image(doubling(), x0, torch.zeros(1, dtype=torch.float64), eps)
    assert found.tolist() == pytest.approx([3.920201], abs=2e-6)


@pytest.mark.parametrize("condition_map", ["identity", "e-tsdm"])
def test_the_loss_is_the_mean_over_the_elements_of_an_image(doubling, condition_map):
    alpha, sigma = coefficients()
    x = alpha * X0 + sigma * EPS
    truth = {"eps": EPS, "x0": X0, "v": alpha * EPS - sigma * X0}
    for target in targets:
        found = MSE().per_image(doubling(target=target, condition_map=condition_map), X0, T, EPS)
        close(found, (2 * x - truth[target]).square().mean((1, 2, 3)))


@every_target
def test_the_ideal_output_has_no_loss_in_any_space(doubling, target):
    alpha, sigma = coefficients()
    denoiser = doubling(targets.create(target).value(X0, EPS, alpha, sigma), target=target)
    assert MSE().per_image(denoiser, X0, T, EPS).tolist() == [0, 0, 0]
    for space in targets:
        # At t = 0 the noise is 100 times the difference of two images, so a rounding of 1e-7 counts as the square of 1e-5.
        assert MSE(space=space).per_image(denoiser, X0, T, EPS).max() < 1e-8


def test_an_error_of_noise_counts_as_one_of_the_image_times_its_coefficient(doubling):
    denoiser = doubling()
    c_out = denoiser.target.coefficients(*coefficients()).c_out.flatten()
    in_eps, in_x0 = (MSE(space=space).per_image(denoiser, X0, T, EPS) for space in ("eps", "x0"))
    torch.testing.assert_close(in_x0, c_out**2 * in_eps, rtol=1e-4, atol=0)
    # sigma / alpha at t = 0: sqrt(1e-4 / 0.9999).
    assert c_out[0].item() == pytest.approx(-0.0100005, abs=1e-7)


@every_target
def test_the_space_is_the_networks_own_unless_told(doubling, target):
    denoiser = doubling(target=target)
    assert torch.equal(MSE().per_image(denoiser, X0, T, EPS), MSE(space=target).per_image(denoiser, X0, T, EPS))


def test_the_loss_has_a_gradient_for_the_network(doubling):
    denoiser = doubling()
    MSE().per_image(denoiser, X0, T, EPS).mean().backward()
    alpha, sigma = coefficients()
    x = alpha * X0 + sigma * EPS
    # d/ds mean (s x - eps)^2 = 2 mean (s x - eps) x at s = 2.
    close(denoiser.backbone.scale.grad, 2 * ((2 * x - EPS) * x).mean())


def test_the_loss_of_an_image_does_not_depend_on_the_others(doubling):
    together = MSE().per_image(doubling(), X0, T, EPS)
    for k in range(3):
        rows = slice(k, k + 1)
        assert torch.equal(MSE().per_image(doubling(), X0[rows], T[rows], EPS[rows]), together[rows])


def test_labels_reach_the_network(tiny_denoiser):
    denoiser = tiny_denoiser(backbone={"num_classes": 10})
    x0, eps = normal(0, "test/x0", range(3), (1, 8, 8)), normal(0, "test/eps", range(3), (1, 8, 8))
    one, other = (MSE().per_image(denoiser, x0, T, eps, y=torch.full((3,), label)) for label in (1, 2))
    assert (one != other).all()


def test_a_loss_comes_back_equal_from_its_dump():
    loss = MSE(space="x0")
    assert loss.model_dump() == {"type": "mse", "space": {"type": "x0"}, "weighting": {"type": "constant"}}
    assert MSE.model_validate(loss.model_dump()) == loss
