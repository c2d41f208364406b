"""Sections of `sampling`: which weights, labels and guidance their samples have, and defaults of evaluation."""

import json
from pathlib import Path

import pytest
import torch

import etsdm
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import CheckpointError, RecipeError
from etsdm.metrics import Lipschitz, LossPerTime
from etsdm.runs.sample import grid_columns

RECIPES = Path(__file__).parents[1] / "recipes"
SHORT = ("training.images=320", "training.warmup_images=0", "training.learning_rate=0.02", "arms=null", "sampling.sampler.steps=3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A run whose samples have the averaged and the current weights, and whose loss is that of the current ones."""
    sections = "sampling={n: 4, averaged: {}, last: {weights: current}}"
    metrics = "evaluation={weights: current, metrics: [{type: pixel-frechet, chunks: 2}, {type: loss-per-t}]}"
    experiment = etsdm.build(RECIPES / "tiny.yaml", *SHORT, sections, metrics, out=tmp_path_factory.mktemp("weights"))
    experiment.evaluate()
    return experiment.runs[0]


def test_samples_have_the_weights_of_their_section(weights):
    sampler = weights.recipe.sampling_of("last").sampler
    drawn = {name: weights.samples_of(name).load().pixels for name in ("averaged", "last")}
    for name, kind in (("averaged", "ema"), ("last", "current")):
        again = etsdm.sample(etsdm.load(weights.folder.path, weights=kind), 4, sampler=sampler, batch_size=4)
        torch.testing.assert_close(drawn[name], again, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(drawn["averaged"], drawn["last"], atol=1e-3)


def test_current_weights_are_those_of_the_trainer(weights):
    first, current = (etsdm.load(weights.folder.path, weights=kind).backbone.state_dict() for kind in ("ema", "current"))
    assert any(not torch.equal(first[name], current[name]) for name in first)
    # With decay 0 the average is the weights themselves.
    recipe = weights.recipe.model_copy(update={"training": weights.recipe.training.model_copy(update={"ema": 0})})
    plain = etsdm.build(recipe, out=weights.folder.path / "plain")
    plain.train()
    same = plain.denoiser.backbone.state_dict()
    assert all(torch.equal(same[name], current[name]) for name in current)


def test_weights_are_in_the_protocol(weights):
    files = sorted((weights.folder.path / "values").rglob("*.json"))
    found = {file.parent.name: json.loads(file.read_text())["protocol"]["weights"] for file in files}
    assert found == {"values": "current", "averaged": "ema", "last": "current"}


def test_other_weights_are_measured_again(weights):
    def value(kind):
        recipe = weights.recipe.model_copy(update={"evaluation": weights.recipe.evaluation.model_copy(update={"weights": kind})})
        experiment = etsdm.build(recipe, out=weights.experiment.path.parent)
        return next(iter(experiment.evaluate().values()))["loss-per-t"].values

    current, averaged = value("current"), value("ema")
    assert all(current[name].value != averaged[name].value for name in current)


def test_unknown_weights_are_refused(weights):
    with pytest.raises(CheckpointError, match=r"weights: 'raw' .* ema or current"):
        etsdm.load(weights.folder.path, weights="raw")
    with pytest.raises(RecipeError, match=r"sampling\.weights.*'raw'.*'ema' or 'current'"):
        etsdm.build("digits", "sampling.weights=raw")


LABELLED = ("model.backbone.num_classes=11", "training.label_dropout=0.2", "evaluation.metrics=[]")


def test_labels_and_guidance_of_a_section_reach_its_samples(tmp_path):
    sections = "sampling={n: 5, plain: {}, guided: {guidance: 3.0, labels: [7, 2]}}"
    experiment = etsdm.build(RECIPES / "tiny.yaml", *SHORT, *LABELLED, sections, out=tmp_path)
    experiment.evaluate()
    [run] = experiment.runs
    denoiser, section = run.load_denoiser(), run.recipe.sampling_of("guided")
    assert run.samples_of("guided").batch(range(5)).labels.tolist() == [7, 2, 7, 2, 7]
    assert run.samples_of("plain").batch(range(5)).labels.tolist() == [0, 1, 2, 3, 4]
    guided, y = ClassifierFreeGuidance(denoiser, 3.0), torch.tensor([7, 2, 7, 2, 7])
    expected = etsdm.sample(guided, 5, sampler=section.sampler, y=y, batch_size=5)
    torch.testing.assert_close(run.samples_of("guided").load().pixels, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(experiment.sample(5, sampling="guided"), expected, rtol=1e-4, atol=1e-5)
    other = torch.tensor([1, 1])
    torch.testing.assert_close(
        experiment.sample(2, sampling="guided", y=other), etsdm.sample(guided, 2, sampler=section.sampler, y=other), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.guidance=2"], r"sampling\.guidance: the model is unconditional; give model\.backbone\.num_classes 11"),
        (["sampling.labels=[1]"], r"sampling\.labels: the model is unconditional; leave them out"),
        ([*LABELLED, "sampling.labels=[11]"], r"sampling\.labels: 11 is no class of the model; give 0 to 10"),
        ([*LABELLED, "sampling.labels=[]"], r"sampling\.labels: .*1 or more"),
        ([*LABELLED, "sampling.guidance_interval=[0.1, 2]"], r"sampling\.guidance_interval: there is no guidance"),
        ([*LABELLED, "sampling.guidance=2", "sampling.guidance_interval=[2, 0.1]"], r"guidance_interval: no noise level lies above 2"),
        (["model.backbone.num_classes=10", "sampling.guidance=2"], r"sampling\.guidance: the model has 10 labels.*no null class"),
    ],
)
def test_labels_and_guidance_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(RecipeError, match=message):
        etsdm.build("digits", *overrides)


def test_a_recipe_without_metrics_has_those_that_its_data_allow():
    model = etsdm.build("digits", "arms=null").recipe.model
    document = {"data": "digits", "model": model, "training": {"images": 640}}
    assert etsdm.build(document).recipe.evaluation.metrics == (LossPerTime(), Lipschitz())
    folder = {"type": "image-folder", "path": "pictures", "image_size": 8, "channels": 1, "held_out": 0}
    assert etsdm.build({**document, "data": folder}).recipe.evaluation.metrics == (Lipschitz(),)
    assert etsdm.build({**document, "evaluation": {"metrics": []}}).recipe.evaluation.metrics == ()
    assert etsdm.build({**document, "evaluation": {"seed": 3}}).recipe.evaluation.metrics == (LossPerTime(), Lipschitz())


@pytest.mark.parametrize(("labels", "columns"), [(1, 8), (2, 8), (3, 9), (5, 10), (8, 8), (9, 9), (16, 16), (17, 8), (1000, 8)])
def test_a_column_of_the_grid_has_one_label_where_there_are_few(labels, columns):
    assert grid_columns(labels) == columns
