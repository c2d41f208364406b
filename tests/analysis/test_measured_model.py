"""`MeasuredModel`: a denoiser with the images on which its K curve is measured."""

import pytest
import torch

from etsdm.analysis import MeasuredModel, lipschitz_curve
from etsdm.condition_maps import ETSDM
from etsdm.data import Digits
from etsdm.errors import PartError
from etsdm.randomness import generator
from etsdm.schedules import Linear
from etsdm.targets import V
from etsdm.theory import MIXTURES, ExactDenoiser


def test_a_trained_denoiser_has_the_first_training_images_and_their_labels(tiny_denoiser):
    denoiser = tiny_denoiser(condition_map=ETSDM(t_tilde=40, n=2), backbone={"num_classes": 10})
    model = MeasuredModel.trained(denoiser, Digits(), 70, label="here")
    expected = Digits().open("train").batch(range(70))
    assert torch.equal(model.images, expected.pixels)
    assert torch.equal(model.cond["y"], expected.labels)
    assert (model.label, model.arm, model.edges) == ("here", "here", (0.0, 20.0, 40.0))
    assert model.facts["images"] == expected.digest()
    assert (model.facts["condition_map"]["n"], model.facts["data"]["type"]) == (2, "digits")
    assert [len(x) for x, _ in model.batches(32)] == [32, 32, 6]
    curve = lipschitz_curve(denoiser, model.batches(32), [3.0])
    assert torch.equal(curve.mean, lipschitz_curve(denoiser, expected.pixels, [3.0], y=expected.labels, batch_size=32).mean)


def test_an_exact_optimum_has_samples_of_its_mixture():
    model = MeasuredModel.exact("m1", Linear(), V(), ETSDM(), n=50, seed=3)
    samples = MIXTURES["m1"].sample(50, generator(3, "lipschitz/samples"))
    assert torch.equal(model.images, samples)
    assert (model.label, model.facts["exact"], model.facts["target"]["type"]) == ("e-tsdm", "m1", "v")
    same = ExactDenoiser(MIXTURES["m1"], Linear(), target=V(), condition_map=ETSDM())
    assert torch.equal(lipschitz_curve(model.denoiser, model.batches(50), [19.0]).mean, lipschitz_curve(same, samples, [19.0]).mean)
    assert MeasuredModel.exact("m1", Linear(), n=2).label == "identity"


def test_models_that_do_not_fit_are_refused(tiny_denoiser):
    with pytest.raises(PartError, match=r"^mixture: 'm3' .*; mixtures: m1, m2, normal$"):
        MeasuredModel.exact("m3", Linear(), n=2)
    with pytest.raises(PartError, match=r"^condition_map\.t_tilde: 2000 .* schedule's .*; give 1000 or less$"):
        MeasuredModel.exact("m1", Linear(), condition_map=ETSDM(t_tilde=2000), n=2)
    with pytest.raises(PartError, match=r"^data: .* 'digits' .* 1x8x8, .* 1x16x16; give another data set$"):
        MeasuredModel.trained(tiny_denoiser(backbone={"image_size": 16}), Digits(), 2, label="here")
