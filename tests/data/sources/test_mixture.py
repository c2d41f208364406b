"""Gaussian mixtures: moments against closed forms, the exact denoiser of the same data, and a run without pictures."""

import json
import subprocess
import sys

import pytest
import torch

from etsdm.data import TrainingLoader
from etsdm.errors import EtsdmError
from etsdm.registry import datasets
from etsdm.schedules import Linear
from etsdm.theory import MIXTURES, ExactDenoiser, GaussianMixture

M2 = {"means": [[-1.5, 0.5], [0.2, -1.0], [1.4, 0.8]], "stds": [0.3, 0.5, 0.4], "weights": [0.3, 0.5, 0.2]}
N = 40_000


def mixture(**fields):
    return datasets.create("mixture", **{**M2, "n": N, **fields})


def test_a_preset_is_the_mixture_of_theory():
    for name in ("m1", "m2"):
        found, known = GaussianMixture(*datasets.create(f"mixture-{name}").parameters()), MIXTURES[name]
        assert all(torch.equal(getattr(found, field), getattr(known, field)) for field in ("means", "stds", "weights"))


def test_moments_and_shares_are_those_of_the_closed_form():
    part = mixture(held_out=0)
    images = part.open("train")
    assert (part.shape, part.num_classes, images.pixels.shape, images.pixels.dtype) == ((2, 1, 1), 3, (N, 2, 1, 1), torch.float32)
    x, (means, stds, weights) = images.pixels.flatten(1).double(), part.parameters()
    mean = weights @ means
    covariance = torch.diag(torch.full((2,), float(weights @ stds**2), dtype=torch.float64))
    covariance += torch.einsum("m,mi,mj->ij", weights, means - mean, means - mean)
    # A mean of N values has standard error sd / sqrt(N), at most 1.2 / 200; four of them.
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=4 * 1.2 / N**0.5)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=0.04)
    share = torch.bincount(images.labels, minlength=3) / N
    torch.testing.assert_close(share.double(), weights, rtol=0, atol=4 * 0.5 / N**0.5)
    for m in range(3):
        own = x[images.labels == m]
        torch.testing.assert_close(own.mean(0), means[m], rtol=0, atol=4 * float(stds[m]) / len(own) ** 0.5)
        torch.testing.assert_close(own.std(0), stds[m].expand(2), rtol=0.05, atol=0)


def test_the_exact_denoiser_of_the_parameters_is_optimal_on_the_draws():
    part = mixture(n=4000, held_out=0)
    x0 = part.open("train").pixels.double()
    exact = ExactDenoiser(GaussianMixture(*part.parameters()), Linear())
    t = torch.tensor(300.0, dtype=torch.float64)
    alpha, sigma = Linear().alpha_sigma(t)
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    predicted = exact.predict(alpha * x0 + sigma * eps, t).eps
    best = (predicted - eps).square().mean()
    # E[eps | x] is orthogonal to its error, and any change of it is a worse prediction.
    assert abs(float(((predicted - eps) * predicted).mean())) < 0.02
    assert all((predicted * factor - eps).square().mean() > best for factor in (0.9, 1.1))


def test_images_of_colours_or_of_all_values():
    part = mixture(means=[[0.5, -0.5, 0.0], [0.0] * 12], stds=0.0, weights=None, image_shape=[3, 2, 2], n=50, held_out=10)
    assert part.shape == (3, 2, 2)
    train, test = part.open("train"), part.open("test")
    assert (len(train), len(test)) == (40, 10)
    for images in (train, test):
        for pixels, label in zip(images.pixels, images.labels.tolist(), strict=True):
            expected = torch.tensor([0.5, -0.5, 0.0] if label == 0 else [0.0] * 3)
            assert torch.equal(pixels, expected[:, None, None].expand(3, 2, 2))


def test_draws_are_a_function_of_the_seed_and_splits_share_none():
    assert mixture().open("train").digest() == mixture().open("train").digest() != mixture(seed=1).open("train").digest()
    whole, train, test = (mixture(held_out=h).open(split).pixels for h, split in ((0, "train"), (0.1, "train"), (0.1, "test")))
    assert torch.equal(torch.cat([test, train]), whole)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"means": [[0.0, 1.0], [0.0]]}, r"means\.1: has 1 values, and an image has 2x1x1; give 2$"),
        ({"image_shape": [3, 2, 2]}, r"means\.0: has 2 values, and an image has 3x2x2; give 12, or 3 for one of each channel"),
        ({"stds": [0.1]}, r"stds: 1 values for 3 means; give one for each"),
        ({"stds": -1.0}, r"stds"),
        ({"weights": [0.5, 0.5, 0.5]}, r"weights: add up to 1\.5; give probabilities, which add up to 1"),
        ({"weights": [0.5, 0.5]}, r"weights: 2 values for 3 means; give one for each"),
        ({"n": 10**9, "means": [[0.0] * 5] * 3}, r"n: 1,000,000,000 images of 5 values are 20 GB; give fewer"),
        ({"n": 2, "held_out": 2}, r"held_out: 2 of 2 images leaves none for training"),
        ({"means": [[float("nan"), 0.0]] * 3}, r"means\.0\.0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(EtsdmError, match=message):
        mixture(**fields)


def test_a_set_of_points_trains_is_measured_and_has_a_report_without_pictures(tmp_path):
    recipe = {
        "data": {"type": "mixture", **M2, "n": 600},
        "model": {
            "schedule": "linear",
            "target": "eps",
            "backbone": {"type": "mlp-plane", "width": 16, "depth": 1, "num_classes": "auto"},
        },
        "training": {"images": 512, "batch_size": 64},
        "sampling": {"n": 32, "sampler": {"type": "ddim", "steps": 3}},
        "evaluation": {"metrics": [{"type": "pixel-frechet", "chunks": 2}, {"type": "loss-per-t"}]},
        "compute": {"threads": 1},
    }
    (tmp_path / "plane.yaml").write_text(json.dumps(recipe))
    for expected in ("sample 32/32", "every stage is done already"):
        done = subprocess.run([sys.executable, "-m", "etsdm", "run", "plane.yaml"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr
        assert expected in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.png"))
    report = (tmp_path / "runs" / "plane" / "report.html").read_text()
    assert "the same noise in every arm" not in report
    assert "How each figure was measured" in report


def test_labels_and_values_come_through_the_loader():
    loader = TrainingLoader(mixture(held_out=0).open("train").to("cpu"), 0, batch_size=50, end=50)
    assert not loader.images.are_pictures
    assert loader.batch(0).pixels.abs().max() > 1
