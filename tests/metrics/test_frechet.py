import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.data import Digits, LoadedImages
from etsdm.errors import PartError
from etsdm.metrics import EvaluationInputs, PixelFrechet, frechet_distance
from etsdm.metrics.frechet import frechet_distance_of_samples
from etsdm.randomness import generator

POSITIVE = st.floats(0.01, 10)


def numbers(values):
    return torch.as_tensor(values, dtype=torch.float64)


def random_gaussian(index, d=6, rank=6):
    """A random mean, and a random covariance of a rank."""
    stream = generator(0, "test/gaussian", index)
    root = torch.randn(d, rank, generator=stream, dtype=torch.float64)
    return torch.randn(d, generator=stream, dtype=torch.float64), root @ root.T / d


@pytest.fixture(scope="module")
def test_split():
    return Digits().open("test")


@given(st.floats(-3, 3), POSITIVE, st.floats(-3, 3), POSITIVE)
def test_in_one_dimension_it_is_the_distance_of_mean_and_deviation(m, s, n, r):
    # (m - n)^2 + (s - r)^2 for N(m, s^2) and N(n, r^2).
    found = frechet_distance(numbers([m]), numbers([[s**2]]), numbers([n]), numbers([[r**2]]))
    assert found == pytest.approx((m - n) ** 2 + (s - r) ** 2, rel=1e-9, abs=1e-12)


@given(st.lists(POSITIVE, min_size=4, max_size=4), st.lists(POSITIVE, min_size=4, max_size=4))
def test_commuting_covariances_have_the_distance_of_their_deviations(a, b):
    # sum (sqrt(a_i) - sqrt(b_i))^2 in common eigenvectors.
    axes = torch.linalg.qr(torch.randn(4, 4, generator=generator(0, "test/axes"), dtype=torch.float64)).Q
    covariances = [axes * numbers(values) @ axes.T for values in (a, b)]
    expected = sum((x**0.5 - y**0.5) ** 2 for x, y in zip(a, b, strict=True))
    zero = torch.zeros(4, dtype=torch.float64)
    assert frechet_distance(zero, covariances[0], zero, covariances[1]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("index", range(5))
def test_random_covariances_have_the_distance_that_scipy_gives(index):
    (mean_a, cov_a), (mean_b, cov_b) = random_gaussian(2 * index), random_gaussian(2 * index + 1)
    cross = scipy.linalg.sqrtm(cov_a.numpy() @ cov_b.numpy()).real
    expected = float((mean_a - mean_b).square().sum()) + np.trace(cov_a.numpy() + cov_b.numpy() - 2 * cross)
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_a_gaussian_has_no_distance_to_itself(rank):
    mean, covariance = random_gaussian(0, rank=rank)
    assert frechet_distance(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("n", [2, 5, 6, 7, 40])
def test_samples_have_the_distance_of_their_gaussian(n):
    mean, cov = random_gaussian(1)
    samples = torch.randn(n, 6, generator=generator(0, "test/samples", n), dtype=torch.float64) * numbers([1, 2, 3, 1, 0, 1])
    expected = frechet_distance(samples.mean(0), samples.T.cov(), mean, cov)
    assert frechet_distance_of_samples(samples, mean, cov) == pytest.approx(expected, rel=1e-6)


def test_singular_covariances_have_the_closed_form():
    # Unit vectors e1 and (e1 + e2) / sqrt(2): rank one each; tr sqrt = |<u, v>| = 1 / sqrt(2), so 1 + 1 - sqrt(2).
    u, v, zero = numbers([1, 0, 0]), numbers([0.5, 0.5, 0]).sqrt(), torch.zeros(3, dtype=torch.float64)
    found = frechet_distance(zero, u.outer(u), zero, v.outer(v))
    assert found == pytest.approx(2 - 2**0.5, rel=1e-7)
    # A point at zero: the distance is the trace.
    assert frechet_distance(zero, u.outer(u), zero, torch.zeros(3, 3, dtype=torch.float64)) == pytest.approx(1)


@pytest.mark.parametrize("rank", [2, 6])
def test_it_is_symmetric(rank):
    one, other = random_gaussian(0, rank=rank), random_gaussian(1)
    assert frechet_distance(*one, *other) == pytest.approx(frechet_distance(*other, *one), rel=1e-7)


def pixel_frechet(denoiser, samples, train, test, **fields):
    drawn = LoadedImages(samples, torch.zeros(len(samples), dtype=torch.long))
    return PixelFrechet(**fields).compute(EvaluationInputs(denoiser, drawn, train, test, 0)).values["pixel Frechet"]


def test_real_images_have_no_distance_to_themselves(tiny_denoiser, test_split):
    value = pixel_frechet(tiny_denoiser(), test_split.pixels, test_split, test_split, chunks=1)
    assert value.value == pytest.approx(0, abs=1e-6)
    assert value.reference == pytest.approx(0, abs=1e-6)
    assert value.se is None


def test_the_distance_of_images_is_that_of_their_means_and_covariances(tiny_denoiser, test_split):
    few = LoadedImages(test_split.pixels[:100], test_split.labels[:100])
    value = pixel_frechet(tiny_denoiser(), few.pixels, test_split, few, chunks=1)
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (images.pixels.flatten(1).double().numpy() for images in (few, test_split))]
    expected = frechet_distance(*(numbers(moment) for pair in moments for moment in pair))
    assert value.value == pytest.approx(expected, rel=1e-8)
    assert value.reference == pytest.approx(expected, rel=1e-8)  # roots of eigenvalues that are zero cost half the digits


def test_samples_and_held_out_images_are_measured_in_chunks_of_one_size(tiny_denoiser, test_split):
    train = Digits().open("train")
    moved = (train.pixels[:700] + 0.5)[torch.randperm(700, generator=generator(0, "test/order"))]
    value = pixel_frechet(tiny_denoiser(), moved, train, test_split)
    assert len(value.per_unit) == 4
    assert value.unit_name == "chunk of 175 samples"
    assert value.value == pytest.approx(sum(value.per_unit) / 4)
    # The mean moved by 0.5 in each of 64 pixels adds 16 to what held-out images have.
    assert value.value == pytest.approx(value.reference + 16, abs=1)


def test_chunks_are_no_larger_than_the_held_out_set(tiny_denoiser, test_split):
    few = LoadedImages(test_split.pixels[:50], test_split.labels[:50])
    value = pixel_frechet(tiny_denoiser(), test_split.pixels, test_split, few, chunks=2)
    assert (len(value.per_unit), value.unit_name) == (2, "chunk of 50 samples")


def test_constant_pixels_do_no_harm(tiny_denoiser):
    grey = LoadedImages(torch.zeros(8, 1, 2, 2), torch.zeros(8, dtype=torch.long))
    value = pixel_frechet(tiny_denoiser(), torch.full((8, 1, 2, 2), 0.5), grey, grey)
    assert value.per_unit == pytest.approx([4 * 0.25] * 4)


def test_too_few_samples_for_the_chunks_are_refused(tiny_denoiser, test_split):
    with pytest.raises(PartError, match=r"^chunks: 7 .* 4 chunks of 2; draw 8 or more, or take 3 chunks or fewer$"):
        pixel_frechet(tiny_denoiser(), test_split.pixels[:7], test_split, test_split)
