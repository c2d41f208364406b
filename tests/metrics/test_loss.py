import pytest
import torch

from etsdm.data import Digits, LoadedImages
from etsdm.metrics import EvaluationInputs, LossPerTime


@pytest.fixture(scope="module")
def some():
    test = Digits().open("test")
    return LoadedImages(test.pixels[:7], test.labels[:7])


def inputs(denoiser, images, seed=0):
    return EvaluationInputs(denoiser, images, images, images, seed)


def test_a_network_that_answers_zero_has_the_loss_of_the_noise(tiny_spec, some):
    # A new network gives zero, so its loss is the mean square of 64 standard normal numbers: 1, with variance 2 / 64 an image.
    outcome = LossPerTime(fine=50, coarse=300).compute(inputs(tiny_spec().build().eval(), some))
    curve = outcome.curves["loss"]
    assert curve.t == (0, 50, 100, 400, 700)
    assert all(abs(mean - 1) < 4 * (2 / 64 / 7) ** 0.5 for mean in curve.mean)
    assert len(set(curve.mean)) == 1  # one noise an image, the same at all times


def test_means_below_and_above_one_hundred_are_those_of_the_curve(tiny_denoiser, some):
    outcome = LossPerTime(fine=50, coarse=300).compute(inputs(tiny_denoiser(), some))
    mean = outcome.curves["loss"].mean
    assert outcome.values["loss [0, 100)"].value == pytest.approx(sum(mean[:2]) / 2)
    assert outcome.values["loss [100, 1000)"].value == pytest.approx(sum(mean[2:]) / 3)
    assert len(outcome.values["loss [0, 100)"].per_unit) == 7


def test_the_batch_size_changes_nothing(tiny_denoiser, some):
    found = [LossPerTime(fine=50, coarse=300, batch_size=size).compute(inputs(tiny_denoiser(), some)) for size in (256, 3)]
    assert found[0].curves["loss"].mean == pytest.approx(found[1].curves["loss"].mean, rel=1e-5)


def test_labels_reach_the_network(tiny_denoiser, some):
    other = LoadedImages(some.pixels, (some.labels + 1) % 10)
    denoiser = tiny_denoiser(backbone={"num_classes": 10})
    found = [LossPerTime(fine=100, coarse=900).compute(inputs(denoiser, images)).curves["loss"].mean for images in (some, other)]
    assert found[0] != found[1]


@pytest.mark.parametrize(("timesteps", "times"), [(60, (0, 50)), (100, (0, 50)), (101, (0, 50, 100))])
def test_a_short_schedule_is_measured_to_its_end(tiny_denoiser, some, timesteps, times):
    denoiser = tiny_denoiser(schedule={"type": "linear", "timesteps": timesteps})
    outcome = LossPerTime(fine=50).compute(inputs(denoiser, some))
    assert outcome.curves["loss"].t == times
    assert all(torch.tensor(value.value).isfinite() for value in outcome.values.values())


def test_one_image_can_be_measured(tiny_denoiser, some):
    one = LoadedImages(some.pixels[:1], some.labels[:1])
    outcome = LossPerTime(fine=100, coarse=900).compute(inputs(tiny_denoiser(), one))
    assert outcome.values["loss [0, 100)"].se is None
