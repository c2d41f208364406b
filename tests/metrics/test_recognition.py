import re

import pytest
import torch

from etsdm.data import Digits, LoadedImages
from etsdm.errors import DataError
from etsdm.metrics import EvaluationInputs, Recognition
from etsdm.randomness import per_sample_normal


@pytest.fixture(scope="module")
def digits():
    return Digits().open("train"), Digits().open("test")


@pytest.fixture(scope="module")
def measure(digits, tiny_denoiser):
    """What the metric finds for some samples."""
    train, test = digits
    denoiser = tiny_denoiser()

    def measure(samples):
        drawn = LoadedImages(samples, torch.zeros(len(samples), dtype=torch.long))
        return Recognition().compute(EvaluationInputs(denoiser, drawn, train, test, 0))

    return measure


@pytest.fixture(scope="module")
def of_real_digits(digits, measure):
    return measure(digits[1].pixels)


def test_the_classifier_names_held_out_digits_rightly(of_real_digits):
    accuracy = re.search(r"([\d.]+)% accuracy on held-out", of_real_digits.values["recognition"].description)
    assert float(accuracy.group(1)) > 97


def test_real_digits_are_recognised_as_surely_as_the_reference(of_real_digits, digits):
    value = of_real_digits.values["recognition"]
    assert value.value == pytest.approx(value.reference)
    assert value.value > 0.9
    assert len(value.per_unit) == len(digits[1])
    assert value.higher_is_better is True


def test_shares_of_the_classes_add_up_to_one(of_real_digits, digits):
    histogram = of_real_digits.histograms["classes"]
    assert histogram.names == tuple("0123456789")
    assert sum(histogram.shares) == pytest.approx(1)
    counts = digits[1].labels.bincount() / len(digits[1])
    assert histogram.reference == pytest.approx(counts.tolist())
    assert histogram.shares == pytest.approx(histogram.reference, abs=0.03)  # at most 3% are named wrongly


def test_noise_is_recognised_less_surely(of_real_digits, measure):
    noise = measure(per_sample_normal(0, "test/noise", range(50), (1, 8, 8)).clamp(-1, 1)).values["recognition"]
    assert noise.value + 4 * noise.se < of_real_digits.values["recognition"].value
    assert noise.reference == of_real_digits.values["recognition"].reference  # the same classifier again


def test_samples_of_one_class_are_named_so(digits, measure):
    ones = digits[0].pixels[digits[0].labels == 1][:20]
    histogram = measure(ones).histograms["classes"]
    assert histogram.shares[1] == 1
    assert sum(histogram.shares) == 1


def test_training_images_of_one_class_are_refused(tiny_denoiser):
    one = LoadedImages(torch.zeros(6, 1, 8, 8), torch.zeros(6, dtype=torch.long))
    with pytest.raises(DataError, match="the training images have one class; this metric needs two or more"):
        Recognition().compute(EvaluationInputs(tiny_denoiser(), one, one, one, 0))
