import pytest

from etsdm.analysis import lipschitz_curve
from etsdm.condition_maps import EDM_PARTITIONS
from etsdm.data import Digits, LoadedImages
from etsdm.metrics import EvaluationInputs, Lipschitz


@pytest.fixture(scope="module")
def some():
    train = Digits().open("train")
    return LoadedImages(train.pixels[:5], train.labels[:5])


def compute(metric, denoiser, images, seed=0):
    return metric.compute(EvaluationInputs(denoiser, images, images, images, seed))


def test_the_curve_is_that_of_noised_training_images(tiny_denoiser, some):
    denoiser = tiny_denoiser(condition_map="e-tsdm")
    outcome = compute(Lipschitz(images=3, start=15, stop=45), denoiser, some, seed=4)
    expected = lipschitz_curve(denoiser, some.pixels[:3], range(15, 45), seed=4)
    curve = outcome.curves["lipschitz"]
    assert curve.t == tuple(range(15, 45))
    assert curve.mean == pytest.approx(expected.mean.tolist())
    assert curve.se == pytest.approx(expected.se.tolist())
    assert outcome.values == {}  # no range of timesteps was measured whole


def test_means_of_ranges_have_a_value_for_each_image(tiny_denoiser, some):
    outcome = compute(Lipschitz(stop=120), tiny_denoiser(condition_map="e-tsdm"), some)
    curve = outcome.curves["lipschitz"]
    assert set(outcome.values) == {"K [0, 20)", "K [20, 100)", "K [0, 100)", "K [100, 120)"}
    assert all(len(value.per_unit) == 5 for value in outcome.values.values())
    assert outcome.values["K [0, 20)"].value == pytest.approx(curve.mean[19] / 20)  # one condition, and the step out of it
    assert outcome.values["K [0, 100)"].value == pytest.approx(sum(curve.mean[:100]) / 100)
    assert outcome.values["K [100, 120)"].value == pytest.approx(sum(curve.mean[100:]) / 20)


def test_labels_reach_the_network(tiny_denoiser, some):
    denoiser = tiny_denoiser(backbone={"num_classes": 10})
    other = LoadedImages(some.pixels, some.labels.flip(0))
    found = [compute(Lipschitz(start=5, stop=7), denoiser, images).curves["lipschitz"].mean for images in (some, other)]
    assert found[0] != found[1]


def test_one_image_can_be_measured(tiny_denoiser, some):
    outcome = compute(Lipschitz(images=1, stop=21), tiny_denoiser(), some)
    assert outcome.values["K [0, 20)"].se is None


def test_a_continuous_schedule_is_measured_at_thousandths(tiny_denoiser, some):
    condition_map = {"type": "e-tsdm", "t_tilde": 0.1, "n": 5}
    denoiser = tiny_denoiser(schedule="linear-continuous", time_input="scaled", condition_map=condition_map)
    outcome = compute(Lipschitz(images=2, stop=110), denoiser, some)
    curve = outcome.curves["lipschitz"]
    # Timestep i is t = (i + 1) / 1000, and an edge belongs to the step that ends there.
    assert curve.t == pytest.approx([(i + 1) / 1000 for i in range(110)])
    assert [i for i in range(99) if curve.mean[i]] == [18, 38, 58, 78, 98]
    assert curve.t_label == "time t"
    per_time = lipschitz_curve(denoiser, some.pixels[:2], curve.t[18:19])
    assert curve.mean[18] == pytest.approx(per_time.mean.item() / 1000, rel=1e-4)
    assert outcome.values["K t in [0, 0.02)"].value == pytest.approx(curve.mean[18] / 19)


def test_the_default_range_is_twice_that_of_the_sub_intervals(tiny_denoiser, some):
    for schedule, condition_map, last in (
        ("linear", {"type": "e-tsdm", "t_tilde": 40, "n": 2}, 79),
        ({"type": "linear", "timesteps": 50}, "identity", 9),
        ({"type": "linear", "timesteps": 50}, {"type": "e-tsdm", "t_tilde": 50, "n": 2}, 48),
    ):
        denoiser = tiny_denoiser(schedule=schedule, condition_map=condition_map)
        assert compute(Lipschitz(images=1), denoiser, some).curves["lipschitz"].t[-1] == last


def test_the_noise_levels_of_edm_are_measured_in_their_logarithm(tiny_denoiser, some):
    denoiser = tiny_denoiser(schedule="edm", target="edm", condition_map="edm-log")
    outcome = compute(Lipschitz(images=1), denoiser, some)
    curve, edges = outcome.curves["lipschitz"], EDM_PARTITIONS["edm-log"]
    assert curve.t[0] == pytest.approx(0.002)
    # One jump at each edge, and as many steps between one and the next.
    jumps = [t for t, mean in zip(curve.t, curve.mean, strict=True) if mean > 0 and t < edges[-1]]
    assert jumps == pytest.approx(edges[1:], rel=0.011)
    assert curve.t_label == "noise level sigma"
    assert {f"K sigma in [0, {edges[1]:.4g})", f"K sigma in [0, {edges[-1]:.4g})"} <= set(outcome.values)
