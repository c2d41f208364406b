import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from etsdm.randomness import generator
from etsdm.theory import MIXTURES, GaussianMixture, mixture

levels = st.floats(0.05, 1.5)
numbers = st.floats(-3, 3)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def random_mixtures(draw):
    m, d = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    means = draw(st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=m, max_size=m))
    stds = draw(st.lists(st.floats(0.1, 2), min_size=m, max_size=m))
    parts = draw(st.lists(st.floats(0.1, 1), min_size=m, max_size=m))
    return GaussianMixture(means, stds, torch.tensor(parts, dtype=torch.float64) / sum(parts))


@st.composite
def mixtures_and_points(draw):
    found = draw(random_mixtures())
    return found, tensor(*draw(st.lists(numbers, min_size=found.dim, max_size=found.dim)))


@pytest.mark.parametrize("name", ["m1", "m2"])
@pytest.mark.parametrize(("alpha", "sigma"), [(0.9, 0.4), (0.3, 1.2), (1.0, 0.0), (0.0, 1.0)])
def test_the_noisy_density_is_that_of_scipy(name, alpha, sigma):
    found = mixture(name)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None] * torch.ones(found.dim, dtype=torch.float64)
    expected = sum(
        w * stats.multivariate_normal(alpha * mean, (alpha**2 * s**2 + sigma**2) * np.eye(found.dim)).pdf(x.numpy())
        for mean, s, w in zip(found.means.numpy(), found.stds.tolist(), found.weights.tolist(), strict=True)
    )
    assert found.marginal(x, tensor(alpha), tensor(sigma)).log_density.exp().numpy() == pytest.approx(expected, rel=1e-12)


@given(mixtures_and_points(), levels, levels)
def test_the_score_is_the_gradient_of_the_log_density(given_mixture, alpha, sigma):
    found, x = given_mixture
    x.requires_grad_(True)
    marginal = found.marginal(x, torch.tensor(alpha), torch.tensor(sigma))
    (gradient,) = torch.autograd.grad(marginal.log_density, x)
    assert torch.allclose(marginal.score, gradient, rtol=1e-9, atol=1e-9)


@given(mixtures_and_points(), levels, levels)
def test_x0_and_eps_make_up_x(given_mixture, alpha, sigma):
    found, x = given_mixture
    marginal = found.marginal(x, tensor(alpha)[0], tensor(sigma)[0])
    assert torch.allclose(alpha * marginal.x0 + sigma * marginal.eps, x, rtol=0, atol=1e-10 * (1 + x.abs().max()))


@pytest.mark.parametrize(("x", "alpha", "sigma"), [(0.7, 0.99, 0.15), (-1.2, 0.5, 0.8), (3.0, 0.1, 1.0)])
def test_x0_is_the_posterior_mean(x, alpha, sigma):
    # Bayes' rule by numerical integration over x0, with the numbers of the mixture written out.
    def joint(x0):
        density = sum(w * stats.norm.pdf(x0, m, s) for m, s, w in ((-1.5, 0.3, 0.3), (0.2, 0.5, 0.5), (1.4, 0.4, 0.2)))
        return density * stats.norm.pdf(x, alpha * x0, sigma)

    options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 400, "points": (-1.5, 0.2, 1.4)}
    mean, mass = (integrate.quad(f, -6, 6, **options)[0] for f in (lambda x0: x0 * joint(x0), joint))
    marginal = mixture("m1").marginal(tensor(x), tensor(alpha), tensor(sigma))
    assert marginal.x0.item() == pytest.approx(mean / mass, rel=1e-10)
    assert marginal.eps.item() == pytest.approx((x - alpha * mean / mass) / sigma, rel=1e-9)


@given(mixtures_and_points(), levels, levels, numbers, st.floats(0, 3))
def test_rates_are_the_derivative_along_a_path_of_levels(given_mixture, alpha, sigma, d_alpha, d_variance):
    found, x = given_mixture

    def along(t):
        a = alpha + d_alpha * t
        marginal = found.marginal(x, a, torch.sqrt(sigma**2 + d_variance * t))
        return marginal.score, marginal.x0

    zero = torch.zeros((), dtype=torch.float64)
    _, expected = torch.func.jvp(along, (zero,), (torch.ones_like(zero),))
    rates = found.rates(x, *(torch.tensor(value, dtype=torch.float64) for value in (alpha, sigma, d_alpha, d_variance)))
    for rate, derivative in zip(rates, expected, strict=True):
        assert torch.allclose(rate, derivative, rtol=1e-8, atol=1e-8 * (1 + derivative.abs().max()))


def test_far_away_and_almost_without_noise_nothing_underflows():
    # mpmath at 60 digits: all densities are far below the smallest float64.
    mpmath.mp.dps = 60
    x, alpha, sigma = mpmath.mpf(50), mpmath.mpf(0.999), mpmath.mpf(1e-6)
    parts = []
    for mean, s, w in ((-1.5, 0.3, 0.3), (0.2, 0.5, 0.5), (1.4, 0.4, 0.2)):
        variance = alpha**2 * mpmath.mpf(s) ** 2 + sigma**2
        offset = x - alpha * mpmath.mpf(mean)
        parts.append((w * mpmath.exp(-(offset**2) / (2 * variance)) / mpmath.sqrt(2 * mpmath.pi * variance), -offset / variance))
    density = sum(part for part, _ in parts)
    marginal = mixture("m1").marginal(tensor(50.0), tensor(0.999)[0], tensor(1e-6)[0])
    assert float(density) == 0
    assert marginal.log_density.item() == pytest.approx(float(mpmath.log(density)), rel=1e-13)
    assert marginal.score.item() == pytest.approx(float(sum(part * slope for part, slope in parts) / density), rel=1e-13)


def test_without_noise_x_is_the_clean_data():
    x = tensor([0.7, -0.4], [1.0, 2.0])
    marginal = mixture("m2").marginal(x, torch.ones(()), torch.zeros(()))
    assert torch.allclose(marginal.x0, x, rtol=1e-14, atol=0)
    assert not marginal.eps.any()


def test_without_signal_x_says_nothing():
    marginal = mixture("m1").marginal(tensor([0.7], [-2.0]), torch.zeros(()), torch.ones(()))
    # The mixture's mean, -1.5 * .3 + .2 * .5 + 1.4 * .2.
    assert torch.allclose(marginal.x0, torch.full((2, 1), -0.07, dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(marginal.eps, tensor([0.7], [-2.0]), rtol=1e-14)


def test_levels_broadcast_against_the_leading_axes():
    found, x = mixture("m2"), tensor([0.7, -0.4], [1.0, 2.0], [0.0, 0.0])
    alpha, sigma = tensor(0.9, 0.5), tensor(0.3, 0.8)
    together = found.marginal(x[:, None], alpha, sigma)
    assert together.log_density.shape == (3, 2)
    alone = found.marginal(x[1], alpha[1], sigma[1])
    assert torch.allclose(together.score[1, 1], alone.score, rtol=1e-14)


def test_single_precision_is_computed_in_double():
    found = mixture("m1").marginal(torch.tensor([0.7]), torch.tensor(0.5), torch.tensor(0.5))
    assert found.score.dtype == found.log_density.dtype == torch.float64


def test_samples_have_the_moments_of_the_mixture():
    samples = mixture("m2").sample(200_000, generator(0, "test/samples"))
    assert samples.shape == (200_000, 2)
    assert samples.dtype == torch.float64
    # By hand: mean = sum w mu; E[x^2] = sum w (mu^2 + s^2), s^2 = .09, .25, .16.
    mean = torch.tensor([-0.07, -0.19], dtype=torch.float64)
    variance = torch.tensor([1.087 + 0.184, 0.703 + 0.184], dtype=torch.float64) - mean**2
    assert torch.allclose(samples.mean(0), mean, rtol=0, atol=5 * math.sqrt(1.3 / 200_000))
    assert torch.allclose(samples.var(0), variance, rtol=0.02)


def test_samples_are_distributed_as_the_density_says():
    samples = mixture("m1").sample(20_000, generator(1, "test/samples"))[:, 0].numpy()

    def cdf(x):
        return sum(w * stats.norm.cdf(x, m, s) for m, s, w in ((-1.5, 0.3, 0.3), (0.2, 0.5, 0.5), (1.4, 0.4, 0.2)))

    assert stats.kstest(samples, cdf).pvalue > 1e-3


def test_samples_come_from_the_generator_alone():
    first, again = (mixture("m1").sample(8, generator(0, "test/samples")) for _ in range(2))
    assert torch.equal(first, again)


def test_the_named_mixtures_are_known():
    assert sorted(MIXTURES) == ["m1", "m2", "normal"]
    assert mixture("normal").marginal(tensor(0.7), torch.tensor(0.6), torch.tensor(0.8)).score.item() == pytest.approx(-0.7, rel=1e-7)


def test_an_unknown_mixture_is_answered_with_the_names():
    with pytest.raises(ValueError, match=r"mixture: 'm9' is not known; known mixtures: m1, m2, normal"):
        mixture("m9")
    with pytest.raises(ValueError, match=r"mixture: 'norm' is not known; did you mean 'normal'\?"):
        mixture("norm")


@pytest.mark.parametrize(
    ("means", "stds", "weights", "message"),
    [
        ([0.0, 1.0], [1.0], [1.0], r"means: found shape \(2,\); give one row of D numbers a component"),
        ([[0.0], [1.0]], [1.0], [0.5, 0.5], r"stds: found shape \(1,\); give one value for each of 2 components"),
        ([[0.0], [1.0]], [1.0, 1.0], [1.0], r"weights: found shape \(1,\); give one value"),
        ([[0.0]], [-1.0], [1.0], "stds: -1 is no standard deviation; give 0 or more"),
        ([[0.0], [1.0]], [1.0, 1.0], [0.5, 0.6], "weights: .* give values above 0 that add up to 1"),
        ([[0.0], [1.0]], [1.0, 1.0], [1.5, -0.5], "weights: .* give values above 0"),
    ],
)
def test_a_mixture_that_is_none_is_refused(means, stds, weights, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(means, stds, weights)


def test_points_of_the_wrong_dimension_are_refused():
    with pytest.raises(ValueError, match=r"x: found shape \(3,\); give 2 elements on the last axis"):
        mixture("m2").marginal(tensor(1.0, 2.0, 3.0), torch.ones(()), torch.ones(()))
