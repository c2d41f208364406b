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
    outcome = LossPerTime(fine=1, coarse=3).compute(inputs(tiny_spec().build().eval(), some))
    curve = outcome.curves["loss"]
    assert curve.t == (0, 20, 40, 60, 80, 100, 400, 700)
    assert all(abs(mean - 1) < 4 * (2 / 64 / 7) ** 0.5 for mean in curve.mean)
    assert len(set(curve.mean)) == 1  # one noise an image, the same at all times


def test_means_below_and_above_one_hundred_are_those_of_the_curve(tiny_denoiser, some):
    outcome = LossPerTime(fine=1, coarse=3).compute(inputs(tiny_denoiser(), some))
    mean = outcome.curves["loss"].mean
    assert outcome.values["loss [0, 100)"].value == pytest.approx(sum(mean[:5]) / 5)
    assert outcome.values["loss [100, 1000)"].value == pytest.approx(sum(mean[5:]) / 3)
    assert len(outcome.values["loss [0, 100)"].per_unit) == 7


def test_the_batch_size_changes_nothing(tiny_denoiser, some):
    found = [LossPerTime(fine=1, coarse=3, batch_size=size).compute(inputs(tiny_denoiser(), some)) for size in (256, 3)]
    assert found[0].curves["loss"].mean == pytest.approx(found[1].curves["loss"].mean, rel=1e-5)


def test_labels_reach_the_network(tiny_denoiser, some):
    other = LoadedImages(some.pixels, (some.labels + 1) % 10)
    denoiser = tiny_denoiser(backbone={"num_classes": 10})
    found = [LossPerTime(fine=1, coarse=1).compute(inputs(denoiser, images)).curves["loss"].mean for images in (some, other)]
    assert found[0] != found[1]


@pytest.mark.parametrize("timesteps", [1, 7, 60, 100, 4000])
def test_schedules_of_other_lengths_are_measured_from_their_first_tenth_to_their_end(tiny_denoiser, some, timesteps):
    denoiser = tiny_denoiser(schedule={"type": "linear", "timesteps": timesteps, "beta_end": 0.005})
    outcome = LossPerTime(fine=1, coarse=3).compute(inputs(denoiser, some))
    times = outcome.curves["loss"].t
    assert all(t == int(t) and 0 <= t < timesteps for t in times)
    assert list(times) == sorted(set(times))
    assert times[0] == 0
    assert times[-1] >= timesteps * 0.7 - 1
    assert all(torch.tensor(value.value).isfinite() for value in outcome.values.values())


CASES = {
    "linear-continuous": ("eps", "t in [0, 0.1)", "t in [0.1, 1)"),
    "flow": ("flow", "t in [0, 0.1)", "t in [0.1, 1)"),
    "ve": ("score", "t in [0, 0.1)", "t in [0.1, 1)"),
    "edm": ("edm", "sigma in [0, 0.3402)", "sigma in [0.3402, 80)"),
}


@pytest.mark.parametrize("schedule", CASES)
def test_other_schedules_are_measured_in_their_own_unit(tiny_denoiser, some, schedule):
    target, below, above = CASES[schedule]
    denoiser = tiny_denoiser(schedule=schedule, target=target)
    outcome = LossPerTime().compute(inputs(denoiser, some))
    curve = outcome.curves["loss"]
    assert set(outcome.values) == {f"loss {below}", f"loss {above}"}
    assert len(curve.t) == 25 + 18
    assert all(torch.tensor(curve.mean).isfinite())
    assert curve.t_label == ("noise level sigma" if schedule == "edm" else "time t")
    assert curve.log_time == (schedule == "edm")


def test_shared_intervals_are_resolved_whatever_their_number(tiny_denoiser, some):
    for n in (1, 5, 20, 100):
        outcome = LossPerTime().compute(inputs(tiny_denoiser(condition_map={"type": "e-tsdm", "t_tilde": 100, "n": n}), some))
        times = outcome.curves["loss"].t
        assert all(any(100 * i / n <= t < 100 * (i + 1) / n for t in times) for i in range(n))
        assert sum(t < 100 for t in times) <= 100


def test_the_loss_of_another_space_is_another_protocol(tiny_spec):
    eps, v = tiny_spec(target="eps"), tiny_spec(target="v")
    own, shared = LossPerTime(), LossPerTime(loss={"type": "mse", "space": "eps"})
    assert own.denoiser_protocol(eps) != own.denoiser_protocol(v)
    assert shared.denoiser_protocol(eps) == shared.denoiser_protocol(v)
    assert shared.denoiser_protocol(eps) != shared.denoiser_protocol(tiny_spec(schedule="cosine"))
    # The condition map is what arms are compared in.
    assert own.denoiser_protocol(eps) == own.denoiser_protocol(tiny_spec(condition_map="e-tsdm"))


def test_one_image_can_be_measured(tiny_denoiser, some):
    one = LoadedImages(some.pixels[:1], some.labels[:1])
    outcome = LossPerTime(fine=1, coarse=1).compute(inputs(tiny_denoiser(), one))
    assert outcome.values["loss [0, 100)"].se is None
