"""Log-likelihoods against the exact density of noisy Gaussian mixtures, and traces against whole Jacobians."""

import math

import pytest
import torch

from etsdm.analysis import bits_per_dim, dequantised, log_likelihood
from etsdm.analysis.likelihood import exact_trace, hutchinson_trace
from etsdm.condition_maps import ETSDM
from etsdm.denoisers.wrappers import ClassifierFreeGuidance, FixedLabels
from etsdm.randomness import generator, per_sample_normal
from etsdm.schedules import EDM, Flow, Linear, LinearContinuous, Sigmoid, ZeroTerminal, ZeroTerminalContinuous
from etsdm.targets import X0, Eps, V
from etsdm.theory import ExactDenoiser, GaussianMixture, mixture

SILENT = (ZeroTerminalContinuous(), ZeroTerminal(), Flow())  # which end in N(0, I) exactly
OTHERS = (Linear(), LinearContinuous(), EDM(), Sigmoid())
FINE = {"rtol": 1e-7, "atol": 1e-7}


def points(name, n=6):
    return 1.2 * per_sample_normal(0, "test/x", range(n), (mixture(name).dim,)).double()


def density(name, x, schedule, t):
    return mixture(name).marginal(x, *schedule.alpha_sigma(t)).log_density


@pytest.mark.parametrize("name", ["m1", "m2"])
@pytest.mark.parametrize("schedule", SILENT, ids=lambda s: s.type_name)
def test_the_log_likelihood_is_the_log_density(schedule, name):
    x = points(name)
    found = log_likelihood(ExactDenoiser(mixture(name), schedule, target=V()), x, trace="exact", **FINE)
    start = 0.0 if schedule.is_discrete else 1e-5
    assert (found.log_likelihood - density(name, x, schedule, start)).abs().max() < 1e-5
    assert found.se.tolist() == [0] * len(x)


@pytest.mark.parametrize("schedule", OTHERS, ids=lambda s: s.type_name)
def test_what_is_left_of_the_image_in_the_noise_is_all_the_error(schedule):
    # With the exact density of the noise in place of N(0, sigma_T^2) nothing is missing.
    x = points("m1")
    found = log_likelihood(ExactDenoiser(mixture("m1"), schedule, target=X0()), x, trace="exact", **FINE)
    low, high = schedule.domain
    start = low if schedule.sigma(low) > 0 else 1e-5
    corrected = found.log_likelihood - found.prior + density("m1", found.noise, schedule, high)
    assert (corrected - density("m1", x, schedule, start)).abs().max() < 1e-5
    assert (found.log_likelihood - corrected).abs().max() < 0.02


def test_the_flow_may_start_later():
    schedule, x = ZeroTerminalContinuous(), points("m1")
    found = log_likelihood(ExactDenoiser(mixture("m1"), schedule, target=V()), x, trace="exact", t_eps=0.3, **FINE)
    assert (found.log_likelihood - density("m1", x, schedule, 0.3)).abs().max() < 1e-5


def test_noise_prediction_stops_a_step_before_the_signal_is_gone():
    schedule, x = ZeroTerminal(), points("m1")
    denoiser = ExactDenoiser(mixture("m1"), schedule, target=Eps(allow_eps_at_zero_snr=True))
    found = log_likelihood(denoiser, x, trace="exact", **FINE)
    assert (found.log_likelihood - density("m1", x, schedule, 0.0)).abs().max() < 1e-4


def test_under_shared_conditions_the_flow_is_followed_from_edge_to_edge():
    # On data N(0, c^2) v = g x with g = alpha sigma (1 - c^2) / tau^2, tau^2 = alpha^2 c^2 + sigma^2, and under a shared condition g is
    # its mean over the timesteps of the sub-interval. The integral of g dphi is a sum up to 100, and log(tau_T / tau_100) from there.
    c, schedule, x = 0.5, ZeroTerminal(), torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(torch.arange(1000))
    tau, phi = torch.hypot(alpha * c, sigma), torch.atan2(sigma, alpha)
    g = alpha * sigma * (1 - c**2) / tau**2
    volume = sum((g[k : k + 20].mean() * (phi[k + 20] - phi[k])).item() for k in range(0, 100, 20)) + (tau[999] / tau[100]).log().item()
    noise = x * math.exp(volume)
    expected = volume - noise.square().flatten() / 2 - math.log(2 * math.pi) / 2
    gaussian = GaussianMixture([[0.0]], [c], [1.0])
    denoiser = ExactDenoiser(gaussian, schedule, target=V(), condition_map=ETSDM(t_tilde=100, n=5))
    found = log_likelihood(denoiser, x, trace="exact", **FINE)
    torch.testing.assert_close(found.log_likelihood, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.noise, noise, rtol=1e-5, atol=1e-5)
    base = log_likelihood(ExactDenoiser(gaussian, schedule, target=V()), x, trace="exact", **FINE)
    assert (found.log_likelihood - base.log_likelihood).abs().max() > 1e-4
    assert found.nfe < base.nfe + 6 * 20


def test_the_published_tolerances_are_accurate_to_a_thousandth():
    x = points("m2")
    found = log_likelihood(ExactDenoiser(mixture("m2"), Flow(), target=V()), x, trace="exact")
    assert (found.log_likelihood - density("m2", x, Flow(), 1e-5)).abs().max() < 2e-3
    assert found.nfe < 150


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinsons_estimate_is_right_within_its_standard_error(probe):
    x = points("m2", 8)
    found = log_likelihood(ExactDenoiser(mixture("m2"), Flow(), target=V()), x, probe=probe, probes=24, rtol=1e-4, atol=1e-4)
    errors = (found.log_likelihood - density("m2", x, Flow(), 1e-5)) / found.se
    assert errors.abs().max() < 4
    assert 0.3 < errors.square().mean().sqrt() < 2
    assert (found.se > 0).all()


def test_gaussian_probes_vary_more_than_signs():
    # Signs leave out the diagonal, which is all there is in one dimension.
    x, denoiser = points("m1"), ExactDenoiser(mixture("m1"), Flow(), target=V())
    signs, normals = (log_likelihood(denoiser, x, probe=probe, probes=4) for probe in ("rademacher", "gaussian"))
    assert signs.se.max() < 1e-12
    assert normals.se.mean() > 0.1


def test_probes_belong_to_images_and_not_to_batches():
    x, denoiser = points("m2", 4), ExactDenoiser(mixture("m2"), Flow(), target=V())
    together = log_likelihood(denoiser, x, seed=5, **FINE)
    alone = log_likelihood(denoiser, x[2:], seed=5, first=2, **FINE)
    torch.testing.assert_close(alone.log_likelihood, together.log_likelihood[2:], rtol=0, atol=1e-4)
    other = log_likelihood(denoiser, x, seed=6, **FINE)
    assert (other.log_likelihood - together.log_likelihood).abs().max() > 1e-2
    assert together.se.isnan().all()


@pytest.fixture(scope="module")
def plane(tiny_spec):
    """A network on the plane, which was not trained, in double precision; told one time only, so that its flow is smooth."""
    parts = {"backbone": "mlp-plane", "condition_map": "constant"}
    spec = tiny_spec(target="v", schedule="zero-terminal-snr").model_dump() | parts
    denoiser = type(tiny_spec()).model_validate(spec).build().eval().double()
    with torch.no_grad():
        for k, weights in enumerate(denoiser.parameters()):
            weights.copy_(torch.randn(weights.shape, generator=generator(0, "test/weights", k)) / weights.shape[-1] ** 0.5)
    return denoiser


def jacobians(denoiser, x, t):
    """dv/dx of every image, (B, D, D)."""

    def v(flat):
        return denoiser.predict(flat.reshape(1, *x.shape[1:]), t).v.flatten()

    return torch.stack([torch.autograd.functional.jacobian(v, image.flatten()) for image in x])


def test_the_likelihood_of_a_network_is_its_change_of_volume(plane):
    # log q(x) = log N(z) + log |det dz/dx|, the determinant by central differences of z itself.
    x, h = per_sample_normal(0, "test/x", range(2), (2, 1, 1)).double(), 1e-3
    found = log_likelihood(plane, x, trace="exact", **FINE)
    columns = []
    for d in range(2):
        shift = torch.zeros_like(x)
        shift[:, d] = h
        ahead, behind = (log_likelihood(plane, x + sign * shift, trace="exact", **FINE).noise for sign in (1, -1))
        columns.append((ahead - behind).flatten(1) / (2 * h))
    volume = torch.stack(columns, dim=2).det().abs().log()
    prior = -found.noise.flatten(1).square().sum(1) / 2 - math.log(2 * math.pi)
    torch.testing.assert_close(found.prior, prior)
    assert volume.abs().max() > 0.05
    torch.testing.assert_close(found.log_likelihood, prior + volume, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_traces_are_those_of_the_whole_jacobian(kind, plane, tiny_denoiser):
    denoiser = plane if kind == "mlp" else tiny_denoiser(target="v", backbone={"image_size": 4}).double()
    x = per_sample_normal(0, "test/x", range(2), denoiser.shape).double().requires_grad_()
    whole = jacobians(denoiser, x.detach(), 300.0)
    v = denoiser.predict(x, 300.0).v
    expected = whole.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(exact_trace(v, x), expected)
    units = torch.eye(x[0].numel(), dtype=torch.float64).reshape(-1, 1, *x.shape[1:]).expand(-1, 2, *x.shape[1:])
    torch.testing.assert_close(hutchinson_trace(v, x, units), whole.diagonal(dim1=1, dim2=2))
    probes = per_sample_normal(0, "test/probes", range(3), x.shape).double()
    quadratic = torch.einsum("kbi,bij,kbj->bk", probes.flatten(2), whole, probes.flatten(2))
    torch.testing.assert_close(hutchinson_trace(v, x, probes), quadratic)


def test_images_of_a_network_in_single_precision_have_a_likelihood(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", condition_map="e-tsdm", backbone={"num_classes": 3, "image_size": 4})
    x, y = per_sample_normal(0, "test/x", range(2), (1, 4, 4)), torch.tensor([0, 1])
    found = log_likelihood(denoiser, x, y=y, t_eps=900, rtol=1e-2, atol=1e-2)
    assert found.log_likelihood.dtype == torch.float64
    assert found.log_likelihood.isfinite().all()
    assert found.noise.shape == x.shape
    same = log_likelihood(FixedLabels(denoiser, y), x, t_eps=900, rtol=1e-2, atol=1e-2)
    assert torch.equal(found.log_likelihood, same.log_likelihood)
    guided = log_likelihood(ClassifierFreeGuidance(denoiser, 1.0), x, y=y, t_eps=900, rtol=1e-2, atol=1e-2)
    assert torch.equal(found.log_likelihood, guided.log_likelihood)
    assert all(parameter.grad is None for parameter in denoiser.parameters())


def test_uniform_images_take_all_their_bits():
    # The density of values uniform in [-1, 1] is 2^-D: 8 bits of 256 levels, 1 bit of 2.
    uniform = torch.tensor([-64 * math.log(2.0)], dtype=torch.float64)
    assert bits_per_dim(uniform, 64).tolist() == pytest.approx([8])
    assert bits_per_dim(uniform, 64, levels=2).tolist() == pytest.approx([1])
    assert bits_per_dim(torch.tensor([0.0]), 64).tolist() == [7]


def test_noise_inside_the_cells_leaves_the_levels_alone():
    u = torch.arange(256).repeat(4).reshape(4, 1, 16, 16)
    images = 2 * u / 255 - 1
    found = dequantised(images, seed=1)
    assert torch.equal(((found + 1) * 128).floor().long().clamp(max=255), u)
    offset = (found.double() + 1) * 128 - u
    assert offset.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 1024))
    assert offset.var().item() == pytest.approx(1 / 12, rel=0.15)
    assert torch.equal(dequantised(images[2:], seed=1, first=2), found[2:])
    assert not torch.equal(dequantised(images, seed=2), found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trace": "hutchison"}, "^trace: 'hutchison' is not known; give hutchinson or exact$"),
        ({"probe": "uniform"}, "^probe: 'uniform' is not known; give rademacher or gaussian$"),
        ({"probes": 0}, "^probes: 0 is too few; give 1 or more$"),
        ({"t_eps": 0.0}, r"^t_eps: the flow cannot start from 0; give a noisy time in \[0, 1\)$"),
        ({"t_eps": 1.0}, r"^t_eps: the flow cannot start from 1; give a noisy time in \[0, 1\)$"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        log_likelihood(ExactDenoiser(mixture("m1"), Flow(), target=V()), points("m1"), **options)
