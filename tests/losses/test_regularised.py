import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.condition_maps import ETSDM
from etsdm.denoisers.denoiser import Denoiser
from etsdm.losses import MSE, LipschitzRegularized
from etsdm.randomness import per_sample_normal
from etsdm.registry import losses
from etsdm.schedules import Linear, LinearContinuous

T = torch.tensor([0.0, 1.0, 60.0, 700.0], dtype=torch.float64)
IMAGE, NOISE = per_sample_normal(0, "test/x0", range(4), (1, 2, 2)), per_sample_normal(0, "test/eps", range(4), (1, 2, 2))
# Conditions and, with them, noise levels are those of the last multiple of 20.
LEFT_EDGES = ETSDM(t_tilde=1000, n=50, share="both")


class LinearInTime(nn.Module):
    """F = rate x time: its difference quotient in time is rate x, whatever the distance."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.25))
        self.calls = []

    def forward(self, x, time, y=None):
        self.calls.append((x, time, y))
        per_label = 1 if y is None else y.reshape(-1, 1, 1, 1)
        return self.rate * x * time.reshape(-1, 1, 1, 1) * per_label


@pytest.fixture
def linear_in_time(tiny_spec):
    return lambda **parts: Denoiser(tiny_spec(**parts), LinearInTime().double())


def noisy(schedule, t):
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    return (alpha * IMAGE + sigma * NOISE).float()


def penalty(denoiser, t=T, **fields):
    """The loss less its squared error, over the weight."""
    whole = LipschitzRegularized(weight=2, **fields).per_image(denoiser, IMAGE.double(), t, NOISE.double())
    return (whole - MSE().per_image(denoiser, IMAGE.double(), t, NOISE.double())) / 2


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7, check_dtype=False)


@pytest.mark.parametrize("dt", [None, 0.5, 1])
def test_the_penalty_is_the_mean_square_of_the_slope_in_steps(linear_in_time, dt):
    expected = (0.25 * noisy(Linear(), T)).square().mean((1, 2, 3))
    expected[0] = 0  # t' would be before the first timestep
    close(penalty(linear_in_time(), dt=dt), expected)


def test_one_image_of_one_pixel_by_hand(linear_in_time):
    # x = 0.5 alpha at t = 1, where alpha^2 = (1 - 1e-4)(1 - 1.1991991992e-4): the slope is 0.25 x, 0.015625 alpha^2 its square.
    denoiser, x0 = linear_in_time(), torch.full((1, 1, 1, 1), 0.5)
    found = LipschitzRegularized(weight=10).per_image(denoiser, x0, T[1:2], torch.zeros_like(x0))
    # F = 0.25 x there too, and eps = 0: the squared error is the same number.
    assert found.item() == pytest.approx(11 * 0.015625 * 0.9999 * (1 - 1.1991991992e-4), rel=1e-6)


@pytest.mark.parametrize("dt", [None, 0.002])
def test_a_step_of_continuous_time_is_a_thousandth_of_the_horizon(linear_in_time, dt):
    denoiser = linear_in_time(schedule="linear-continuous", time_input="scaled")
    t = torch.tensor([0.0005, 0.0025, 0.5, 1.0], dtype=torch.float64)
    # The time input is 1000 t, so that the network's slope per step is the same as on a thousand timesteps.
    expected = (0.25 * noisy(LinearContinuous(), t)).square().mean((1, 2, 3))
    expected[0] = 0
    close(penalty(denoiser, t, dt=dt), expected)


def test_the_network_is_called_twice_on_the_same_images_with_two_conditions(linear_in_time):
    denoiser = linear_in_time(target="edm", condition_map="e-tsdm")
    LipschitzRegularized(weight=1).per_image(denoiser, IMAGE, T, NOISE)
    (x, here, _), (same, there, _) = denoiser.backbone.calls
    assert torch.equal(x, same)
    assert here.tolist() == [0, 0, 60, 700]
    assert there.tolist() == [0, 0, 40, 699]


def test_there_is_no_penalty_within_a_sub_interval(tiny_denoiser):
    denoiser = tiny_denoiser(condition_map="e-tsdm")
    x0, eps = per_sample_normal(0, "test/x0", range(4), (1, 8, 8)), per_sample_normal(0, "test/eps", range(4), (1, 8, 8))
    t = torch.tensor([0.0, 19.0, 20.0, 700.0], dtype=torch.float64)
    whole = LipschitzRegularized(weight=10).per_image(denoiser, x0, t, eps)
    plain = MSE().per_image(denoiser, x0, t, eps)
    assert torch.equal(whole[:2], plain[:2])
    assert (whole[2:] > plain[2:]).all()


def test_what_is_before_the_start_has_no_penalty_even_if_the_network_never_answers_the_same(linear_in_time):
    denoiser = linear_in_time()
    # As with dropout: here the second answer is three times the first.
    denoiser.backbone.register_forward_hook(lambda network, _, output: (2 * len(network.calls) - 1) * (output + 1))
    whole = LipschitzRegularized(weight=1).per_image(denoiser, IMAGE, T, NOISE)
    denoiser.backbone.calls.clear()
    plain = MSE().per_image(denoiser, IMAGE, T, NOISE)
    assert whole[0] == plain[0]
    assert (whole[1:] > plain[1:]).all()


def test_the_penalty_compares_the_drawn_times_also_where_levels_are_shared(linear_in_time):
    denoiser = linear_in_time(condition_map=LEFT_EDGES)
    t = torch.tensor([19.0, 20.0, 39.0, 40.0], dtype=torch.float64)
    LipschitzRegularized(weight=1).per_image(denoiser, IMAGE, t, NOISE)
    (x, here, _), (_, there, _) = denoiser.backbone.calls
    close(x, noisy(Linear(), torch.tensor([0.0, 20.0, 20.0, 40.0], dtype=torch.float64)))
    assert here.tolist() == [0, 20, 20, 40]
    assert there.tolist() == [0, 0, 20, 20]


def test_the_squared_error_has_its_own_space_and_weighting(linear_in_time):
    denoiser, first = linear_in_time(), torch.zeros(4, dtype=torch.float64)
    mse = MSE(space="x0", weighting="min-snr")
    # At t = 0 there is no penalty.
    found = LipschitzRegularized(weight=1, mse=mse).per_image(denoiser, IMAGE, first, NOISE)
    assert torch.equal(found, mse.per_image(denoiser, IMAGE, first, NOISE))


def test_the_gradient_goes_through_both_outputs(linear_in_time):
    denoiser = linear_in_time()
    x0, t = torch.full((1, 1, 1, 1), 0.5), torch.tensor([700.0], dtype=torch.float64)
    LipschitzRegularized(weight=3).per_image(denoiser, x0, t, torch.zeros_like(x0)).sum().backward()
    x2 = 0.25 * Linear().alpha_bar(t).item()
    # (r x t)^2 + 3 (r x)^2 with r = 0.25, by r; through one output alone it would be 3 t times the second term's.
    assert denoiser.backbone.rate.grad.item() == pytest.approx(2 * 0.25 * x2 * (700**2 + 3), rel=1e-5)


def test_the_gradient_of_the_penalty_reaches_all_that_takes_in_the_time(tiny_denoiser):
    denoiser = tiny_denoiser()
    x0, eps = per_sample_normal(0, "test/x0", range(4), (1, 8, 8)), per_sample_normal(0, "test/eps", range(4), (1, 8, 8))
    both = [LipschitzRegularized(weight=weight).per_image(denoiser, x0, T, eps).sum() for weight in (1.0, 2.0)]
    weights = list(denoiser.parameters())
    one, two = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in both)
    assert all(torch.isfinite(gradient).all() for gradient in one if gradient is not None)
    assert any(not torch.equal(a, b) for a, b in zip(one, two, strict=True) if a is not None)


def test_labels_reach_both_calls(linear_in_time):
    denoiser, labels = linear_in_time(backbone={"num_classes": 10}), torch.tensor([1, 2, 3, 4])
    LipschitzRegularized(weight=1).per_image(denoiser, IMAGE, T, NOISE, y=labels)
    assert [y.tolist() for _, _, y in denoiser.backbone.calls] == [[1, 2, 3, 4]] * 2


def test_the_loss_of_an_image_does_not_depend_on_the_others(linear_in_time):
    loss = LipschitzRegularized(weight=0.1)
    together = loss.per_image(linear_in_time(), IMAGE, T, NOISE)
    assert together.dtype == torch.float32
    for k in range(4):
        rows = slice(k, k + 1)
        assert torch.equal(loss.per_image(linear_in_time(), IMAGE[rows], T[rows], NOISE[rows]), together[rows])


def test_the_weight_is_required():
    with pytest.raises(ValidationError, match=r"weight\n  Field required"):
        LipschitzRegularized()


@pytest.mark.parametrize(("field", "value"), [("weight", 0), ("weight", -1), ("dt", 0)])
def test_a_weight_or_distance_that_is_none_is_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        LipschitzRegularized(**{"weight": 1, field: value})


def test_a_loss_comes_back_equal_from_its_dump():
    loss = LipschitzRegularized(weight=0.1, dt=2, mse=MSE(space="v"))
    assert losses.parse(loss.model_dump(mode="json")) == loss
    assert losses.parse({"type": "lipschitz-regularized", "weight": 0.1, "dt": 2, "mse": {"type": "mse", "space": "v"}}) == loss
