import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import norm
from torch import nn
from torch.distributions import Normal, kl_divergence

from etsdm.condition_maps import ETSDM
from etsdm.denoisers.denoiser import Denoiser
from etsdm.losses import MSE, Hybrid
from etsdm.losses.hybrid import gaussian_kl, log_probability
from etsdm.randomness import per_sample_normal
from etsdm.registry import losses
from etsdm.schedules import Cosine, Linear, ModifiedQuadratic
from etsdm.targets import Eps
from etsdm.theory import ExactDenoiser, mixture

VALUES = torch.arange(256, dtype=torch.float64) / 127.5 - 1
# Conditions and, with them, noise levels are those of the last multiple of 20.
LEFT_EDGES = ETSDM(t_tilde=1000, n=50, share="both")


class Answering(nn.Module):
    """A network that gives F and v as they are set, whatever it is asked."""

    def __init__(self, output, logit):
        super().__init__()
        self.output, self.logit = nn.Parameter(output), nn.Parameter(logit)
        self.calls = []

    def forward(self, x, time, y=None):
        self.calls.append((x, time, y))
        return torch.cat([self.output, self.logit], dim=1)


@pytest.fixture
def answering(tiny_spec):
    def make(output, logit, **parts):
        channels = {"in_channels": output.shape[1], "out_channels": 2 * output.shape[1]}
        return Denoiser(tiny_spec(backbone=channels | parts.pop("backbone", {}), **parts), Answering(output, logit))

    return make


def times(*t):
    return torch.tensor(t, dtype=torch.float64)


def images(*values):
    """One pixel each."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def bits(denoiser, x0, t, eps, **cond):
    """The term of the bound: what is added to the squared error, over its weight."""
    horizon = denoiser.schedule.horizon
    return Hybrid(vlb_weight=1 / horizon).per_image(denoiser, x0, t, eps, **cond) - MSE().per_image(denoiser, x0, t, eps, **cond)


def tensors_of_the_original_runs():
    """x0 of 8 bits with both ends in it, noise, v, and what F is wrong by; (4, 2, 2, 2)."""
    k = np.arange(32)
    x0 = ((37 * k) % 256) / 127.5 - 1
    x0[k % 8 == 6], x0[k % 8 == 7] = 1, -1
    rows = (x0, 2 * np.sin(1.7 * k), 1.5 * np.sin(0.9 * k), 0.2 * np.cos(k))
    return [torch.from_numpy(row.reshape(4, 2, 2, 2)) for row in rows]


# `training_losses` of openai/improved-diffusion (MIT), LEARNED_RANGE, with its coefficients kept in float64: its "vb" for `MSE` and
# its "loss" for `RESCALED_MSE` at t = 0, 1, T/2, T - 1. Below t = 1 of `x0` some probabilities are less than 1e-12.
ORIGINAL = [
    (
        Linear(),
        "eps",
        [1.17661013821, 0.118818581574, 0.000165433074239, 0.000295397064476],
        [1.19882613682, 0.137252387515, 0.0209491956424, 0.0203604358156],
    ),
    (
        Linear(),
        "x0",
        [34.8802449963, 52.8054979212, 1.41145914677e-05, 1.19223362804e-08],
        [34.9024609949, 52.8239317272, 0.0207978771596, 0.0200650506734],
    ),
    (
        Cosine(timesteps=40),
        "eps",
        [2.76589081362, 0.231047045099, 0.00367861020186, 14.4705293388],
        [0.132851631153, 0.0276756877454, 0.0209309069762, 0.598886212302],
    ),
    (
        Cosine(timesteps=4000),
        "eps",
        [0.197216128584, 0.0989310460595, 2.35148590079e-05, 14.4593931975],
        [0.811080512945, 0.414157990179, 0.0208778220042, 57.8576378286],
    ),
]


@pytest.mark.parametrize(("schedule", "target", "vb", "rescaled"), ORIGINAL, ids=lambda value: getattr(value, "type_name", None))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_the_loss_is_that_of_improved_diffusion(answering, schedule, target, vb, rescaled, dtype, tolerance):
    x0, eps, logit, error = (value.to(dtype) for value in tensors_of_the_original_runs())
    steps = int(schedule.horizon)
    t = times(0, 1, steps // 2, steps - 1)
    denoiser = answering((eps if target == "eps" else x0) + error, logit, schedule=schedule, target=target)
    # The bound alone only in double precision: beside the squared error, single precision would not see a term of 1e-8.
    if dtype == torch.float64:
        assert bits(denoiser, x0, t, eps).tolist() == pytest.approx(vb, rel=1e-7, abs=1e-12)
    assert Hybrid().per_image(denoiser, x0, t, eps).tolist() == pytest.approx(rescaled, rel=tolerance)


@given(st.floats(-3, 3), st.floats(-8, 2), st.floats(-8, 2))
def test_the_divergence_is_that_of_two_normal_distributions(gap, q, p):
    expected = kl_divergence(*(Normal(*times(mean, math.exp(log / 2))) for mean, log in ((gap, q), (0, p))))
    found = gaussian_kl(*times(gap, q, p))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_divergence_of_nearly_equal_distributions_keeps_its_digits():
    # (u + exp(-u) - 1)/2 = u^2/4 - u^3/12 for small u; in double precision 1 - exp(-u) would be off by 1e-16.
    assert gaussian_kl(*times(0, 0, 1e-8)).item() == pytest.approx(2.5e-17, rel=1e-6, abs=0)


def of_8_bits(mean, std):
    return log_probability(VALUES, torch.full_like(VALUES, mean), torch.full_like(VALUES, 2 * math.log(std))).exp()


@given(st.floats(-1.3, 1.3), st.floats(0.003, 3))
def test_the_probabilities_of_all_values_add_up_to_one(mean, std):
    # Those below 1e-12 count as 1e-12.
    assert of_8_bits(mean, std).sum().item() == pytest.approx(1, abs=256e-12)


@given(st.floats(-1.3, 1.3), st.floats(0.003, 3))
def test_a_probability_is_that_of_the_interval_around_the_value(mean, std):
    edges = np.concatenate([[-np.inf], (VALUES[1:].numpy() + VALUES[:-1].numpy()) / 2, [np.inf]])
    # The published approximation of the distribution function is off by up to 1.8e-4; a probability is a difference of two.
    np.testing.assert_allclose(of_8_bits(mean, std).numpy(), np.diff(norm.cdf(edges, mean, std)), atol=4e-4)


def test_log_probabilities_are_those_of_improved_diffusion():
    # Its `discretized_gaussian_log_likelihood`; the fourth probability is less than 1e-12, and the ends have all that is beyond.
    x0, mean = times(-1, -0.5, 3 / 127.5 - 1, 0.2, 1, 1), times(-1.01, -0.49, -1, 0.5, 0.97, 1.2)
    found = log_probability(x0, mean, 2 * times(0.01, 0.02, 0.5, 0.03, 0.01, 0.3).log())
    expected = [-0.0856720978300, -1.98533492760, -5.07503073601, -27.6310211159, -5.43141817872, -0.285562870223]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_single_precision_tells_small_probabilities_on_both_sides_of_the_mean():
    # 5.5 deviations away: single precision knows 1 - 1e-10 as 1.
    x0, log_variance = times(-0.55, 0.55), 2 * times(0.1, 0.1).log()
    exact = log_probability(x0, torch.zeros_like(x0), log_variance)
    found = log_probability(x0.float(), torch.zeros(2), log_variance.float())
    assert exact[0].item() == pytest.approx(exact[1].item(), rel=1e-12)
    assert -25 < exact[0].item() < -20
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=0)


def test_the_gradient_of_the_probability_is_finite_everywhere():
    x0 = torch.tensor([-1.0, 1.0, 0.0, 0.0, -1.0])
    mean, log_variance = torch.tensor([0.5, 0.9, 1e5, 0.1, -1e5]), torch.full((5,), -7.0, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        log_probability(x0, mean, log_variance).sum().backward()
    assert log_variance.grad.isfinite().all()
    # The others are certain, or less likely than 1e-12.
    assert log_variance.grad.nonzero().flatten().tolist() == [1, 3]


def gaussian(schedule, t, c):
    """For data N(0, c^2): deviation of x0 given x_t, and the v that gives the variance of x_s given x_t; (B,)."""
    alpha2, before = schedule.alpha_bar(t), schedule.alpha_bar(t - 1)
    total, total_s = (value * c**2 + 1 - value for value in (alpha2, before))
    variance = total_s - alpha2 / before * total_s**2 / total
    beta = 1 - alpha2 / before
    posterior = beta * (1 - before) / (1 - alpha2)
    v = 2 * (variance / posterior).log() / (beta / posterior).log() - 1
    return c * ((1 - alpha2) / total).sqrt(), v


def ideal(answering, schedule, t, c):
    """A denoiser whose x0 is off by one standard deviation of x0 given x_t, the mean square error of the best; at x0 = eps = 0."""
    deviation, v = gaussian(schedule, t, c)
    return answering(images(*deviation.tolist()), images(*v.tolist()), schedule=schedule, target="x0"), torch.zeros(
        len(t), 1, 1, 1
    ).double()


@pytest.mark.parametrize("schedule", [Linear(), Cosine(timesteps=100)], ids=repr)
@pytest.mark.parametrize("c", [0.05, 0.5, 2.0])
def test_the_bound_of_gaussian_data_is_the_information_that_the_first_timestep_keeps(answering, schedule, c):
    # E KL(q || p) of the best p is the information I(x_s; x0 | x_t), and these add up to I(x_0; x0) - I(x_T; x0), with
    # I = log(1 + c^2 SNR) / 2 nats.
    t = torch.arange(1, schedule.horizon, dtype=torch.float64)
    denoiser, zero = ideal(answering, schedule, t, c)
    first, last = (math.log1p(c**2 * schedule.snr(end).item()) / 2 for end in schedule.domain)
    assert bits(denoiser, zero, t, zero).sum().item() == pytest.approx((first - last) / math.log(2), rel=1e-7)


def test_the_best_variance_of_gaussian_data_has_the_least_loss(answering):
    t = times(1, 2, 50, 400, 900)
    denoiser, zero = ideal(answering, Linear(), t, 0.5)
    best = bits(denoiser, zero, t, zero)
    best.sum().backward()
    assert denoiser.backbone.logit.grad.abs().max() < 1e-10
    for change in (-0.05, 0.05):
        with torch.no_grad():
            denoiser.backbone.logit += change
            assert (bits(denoiser, zero, t, zero) > best).all()
            denoiser.backbone.logit -= change


@pytest.mark.parametrize(("c", "end"), [(1e-7, -1), (1, 1)])
def test_constant_data_want_the_posterior_variance_and_normal_data_want_beta(answering, c, end):
    t = times(1, 2, 50, 400)
    denoiser, zero = ideal(answering, Linear(), t, c)
    with torch.no_grad():
        denoiser.backbone.logit.fill_(end)
    bits(denoiser, zero, t, zero).sum().backward()
    # Half of log(beta / beta~)/2, .35 at t = 1 and .001 at 400, were the sign of v or its halving wrong.
    assert denoiser.backbone.logit.grad.abs().max() < 1e-9


def test_the_first_timestep_is_decoded_from_x0_itself(answering):
    # v = -1 at t = 0 is log beta~_1, for want of beta~_0; 1 is log beta_0 = log 1e-4.
    x0, mean = images(0.1), images(0.11)
    first, second = (1 - Linear().alpha_bar(t).item() for t in (0, 1))
    for v, variance in ((1.0, 1e-4), (-1.0, (1e-4 + 0.0199 / 999) * first / second)):
        found = bits(answering(mean, images(v), target="x0"), x0, times(0), images(0.3))
        expected = -log_probability(x0, mean, torch.full_like(x0, math.log(variance))) / math.log(2)
        assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_no_gradient_of_the_bound_reaches_the_output_and_none_of_the_squared_error_the_variance(answering):
    x0, eps, logit, error = tensors_of_the_original_runs()
    t, denoiser = times(0, 1, 500, 999), answering(eps + error, logit)
    output, variance = denoiser.backbone.output, denoiser.backbone.logit
    of_hybrid = torch.autograd.grad(Hybrid(vlb_weight=7).per_image(denoiser, x0, t, eps).sum(), (output, variance))
    (of_mse,) = torch.autograd.grad(MSE().per_image(denoiser, x0, t, eps).sum(), output)
    assert torch.equal(of_hybrid[0], of_mse)
    half = torch.autograd.grad(Hybrid(vlb_weight=3.5).per_image(denoiser, x0, t, eps).sum(), variance)[0]
    assert of_hybrid[1].count_nonzero() > 16
    torch.testing.assert_close(of_hybrid[1], 2 * half)


def test_the_squared_error_is_the_one_asked_for(answering):
    x0, eps, logit, error = tensors_of_the_original_runs()
    t, denoiser, simple = times(0, 1, 500, 999), answering(eps + error, logit), MSE(space="v", weighting="min-snr")
    bound = Hybrid(simple=simple).per_image(denoiser, x0, t, eps) - simple.per_image(denoiser, x0, t, eps)
    torch.testing.assert_close(bound, bits(denoiser, x0, t, eps), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", ["v", "score", "flow", "edm"])
def test_the_bound_depends_on_the_predicted_image_and_not_on_how_it_is_said(answering, target):
    x0, eps, logit, error = tensors_of_the_original_runs()
    t, mean = times(0, 1, 500, 999), x0 + 0.05 * error
    by_x0 = answering(mean, logit, target="x0")
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in Linear().alpha_sigma(t))
    denoiser = answering(error, logit, target=target)
    noise = eps + alpha / sigma * (x0 - mean)  # x - alpha mean over sigma
    denoiser.backbone.output.data = denoiser.target.training_target(mean, noise, alpha, sigma)
    torch.testing.assert_close(bits(denoiser, x0, t, eps), bits(by_x0, x0, t, eps), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("t", [0.5, 7.25])
def test_between_timesteps_the_bound_is_continuous_and_the_step_is_one(answering, t):
    # Of log-SNR interpolated between timesteps: alpha^2 = sigmoid(lambda). Before t = 1 comes the image, with beta = sigma^2.
    alpha2 = Linear().alpha_bar(t).item()
    mean, x0 = images(0.12), images(0.1)
    found = bits(answering(mean, images(1.0), target="x0"), x0, times(t), images(0.3)).item()
    if t < 1:
        expected = -log_probability(x0, mean, torch.full_like(x0, math.log(1 - alpha2))).item()
    else:
        before = Linear().alpha_bar(t - 1).item()
        beta = 1 - alpha2 / before
        q, p = (
            Normal(0.0, math.sqrt(beta * (1 - before) / (1 - alpha2))),
            Normal(math.sqrt(before) * beta / (1 - alpha2) * 0.02, math.sqrt(beta)),
        )
        expected = kl_divergence(q, p).item()
    assert found == pytest.approx(expected / math.log(2), rel=1e-5)


def test_the_network_is_called_once_and_told_the_condition_and_the_labels(answering):
    x0, eps, logit, error = tensors_of_the_original_runs()
    t, labels = times(0, 59, 500, 999), torch.tensor([1, 2, 3, 4])
    denoiser = answering(eps + error, logit, condition_map=ETSDM(), backbone={"num_classes": 10})
    found = Hybrid().per_image(denoiser, x0, t, eps, y=labels)
    ((x, told, y),) = denoiser.backbone.calls
    assert told.tolist() == [0, 40, 500, 999]
    assert y.tolist() == [1, 2, 3, 4]
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in Linear().alpha_sigma(t))
    torch.testing.assert_close(x, alpha * x0 + sigma * eps)
    # Only the condition is shared: the bound is that of the true time.
    assert torch.equal(found, Hybrid().per_image(answering(eps + error, logit), x0, t, eps))


def test_where_a_map_shares_the_level_the_step_starts_from_it(answering):
    x0, eps, logit, error = tensors_of_the_original_runs()
    shared, at_edges = (answering(error, logit, target="edm", condition_map=f) for f in (LEFT_EDGES, "identity"))
    found = Hybrid().per_image(shared, x0, times(19, 59, 519, 999), eps)
    assert torch.equal(found, Hybrid().per_image(at_edges, x0, times(0, 40, 500, 980), eps))
    assert torch.equal(shared.backbone.calls[0][0], at_edges.backbone.calls[0][0])


def test_the_loss_of_an_image_does_not_depend_on_the_others(answering):
    x0, eps, logit, error = (value.float() for value in tensors_of_the_original_runs())
    t = times(0, 1, 500, 999)
    together = Hybrid().per_image(answering(eps + error, logit), x0, t, eps)
    assert together.dtype == torch.float32
    for k in range(4):
        rows = slice(k, k + 1)
        alone = Hybrid().per_image(answering((eps + error)[rows], logit[rows]), x0[rows], t[rows], eps[rows])
        # Vectorised exponentials differ in the last digit from those of the elements that fill no vector.
        torch.testing.assert_close(alone, together[rows], rtol=1e-6, atol=0)


def test_an_output_in_half_precision_is_compared_in_single(answering):
    x0, eps, logit, error = (value.to(torch.bfloat16) for value in tensors_of_the_original_runs())
    t = times(0, 1, 500, 999)
    half = Hybrid().per_image(answering(eps + error, logit), x0.float(), t, eps.float())
    assert half.dtype == torch.float32
    single = Hybrid().per_image(answering((eps + error).float(), logit.float()), x0.float(), t, eps.float())
    torch.testing.assert_close(half, single, rtol=1e-5, atol=0)


def test_a_network_learns_the_variance_and_keeps_its_gradient_finite(tiny_denoiser):
    denoiser, t = tiny_denoiser(backbone={"out_channels": 2}), times(0, 1, 500, 999)
    x0, eps = per_sample_normal(0, "test/x0", range(4), (1, 8, 8)).clamp(-1, 1), per_sample_normal(0, "test/eps", range(4), (1, 8, 8))
    Hybrid().per_image(denoiser, x0, t, eps).mean().backward()
    *_, bias = (parameter for parameter in denoiser.backbone.parameters() if len(parameter) == 2)
    assert bias.grad.isfinite().all()
    assert (bias.grad != 0).all()  # of F and of v


def test_a_denoiser_that_learns_no_variance_is_refused(tiny_denoiser):
    message = "loss: hybrid trains a variance, which the network does not learn; give a backbone whose out_channels are twice the image's"
    exact = ExactDenoiser(mixture("normal"), Linear())
    for denoiser, x0 in ((tiny_denoiser(), torch.zeros(1, 1, 8, 8)), (exact, torch.zeros(1, 1, 1, 1))):
        with pytest.raises(ValueError, match=f"^{message}$"):
            Hybrid().per_image(denoiser, x0, times(0), x0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"schedule": "linear-continuous"}, "'linear-continuous' has no timesteps, of which hybrid's bound is a sum; give a discrete one"),
        (
            {"schedule": Linear(timesteps=1)},
            "'linear' has 1 timestep, and hybrid's bound needs a step between two; give 2 timesteps",
        ),
        (
            {"schedule": ModifiedQuadratic(grid="linspace-from-zero")},
            "'modified-quadratic' has no noise at its first timestep, where hybrid's variance is then 0; give one whose sigma starts",
        ),
        (
            {"schedule": "zero-terminal-snr", "target": Eps(allow_eps_at_zero_snr=True)},
            "'zero-terminal-snr' ends at alpha = 0, where target 'eps' does not determine the x0 of hybrid's bound; give target 'v'",
        ),
    ],
    ids=["continuous", "one timestep", "no noise", "no signal"],
)
def test_a_schedule_without_a_bound_is_refused_before_the_network_is_called(answering, parts, message):
    denoiser = answering(images(0.0), images(0.0), **parts)
    with pytest.raises(ValueError, match=f"^loss: schedule {message}"):
        Hybrid().per_image(denoiser, images(0.5), times(0), images(0.1))
    assert denoiser.backbone.calls == []


def test_a_velocity_network_is_trained_where_there_is_no_signal(answering):
    x0, eps, logit, error = tensors_of_the_original_runs()
    denoiser = answering(error, logit, schedule="zero-terminal-snr", target="v")
    assert bits(denoiser, x0, times(0, 1, 998, 999), eps).isfinite().all()


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValidationError, match="vlb_weight"):
        Hybrid(vlb_weight=weight)


def test_a_loss_comes_back_equal_from_its_dump():
    loss = Hybrid(vlb_weight=0.01, simple=MSE(space="v"))
    assert losses.parse(loss.model_dump(mode="json")) == loss
    assert losses.parse({"type": "hybrid", "vlb_weight": 0.01, "simple": {"type": "mse", "space": "v"}}) == loss
    assert losses.parse("hybrid") == Hybrid(vlb_weight=0.001, simple=MSE())
