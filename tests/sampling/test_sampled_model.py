"""`SampledModel`: its protocol, and what it refuses."""

import json

import pytest
import torch

from etsdm.checkpoints.format import write_denoiser
from etsdm.condition_maps import ETSDM
from etsdm.denoisers.wrappers import ClassifierFreeGuidance
from etsdm.errors import PartError
from etsdm.samplers import DDIM, DDPM
from etsdm.sampling import SampledModel
from etsdm.storage.files import atomic_folder


@pytest.fixture(scope="module")
def classes(tiny_denoiser):
    """A model with the labels 0 to 2."""
    return SampledModel.of(tiny_denoiser(target="v", backbone={"num_classes": 3}))


@pytest.fixture(scope="module")
def plain(tiny_denoiser):
    return SampledModel.of(tiny_denoiser(target="v"))


def test_a_denoiser_in_memory_has_the_protocol_of_its_checkpoint(plain, tmp_path):
    with atomic_folder(tmp_path / "checkpoint") as folder:
        write_denoiser(folder, plain.trained, plain.trained.backbone.state_dict())
    assert SampledModel.from_checkpoint(tmp_path / "checkpoint").protocol == plain.protocol


def test_everything_that_changes_an_image_changes_the_protocol(classes, tiny_denoiser):
    with torch.no_grad():
        other = tiny_denoiser(target="v", backbone={"num_classes": 3})
        next(other.backbone.parameters()).add_(1)
    tasks = [
        classes.task(),
        SampledModel.of(other).task(),
        classes.with_condition_map(ETSDM()).task(),
        classes.with_guidance(2.0).task(),
        classes.with_guidance(2.0, (0.1, 1.0)).task(),
        classes.task("ddpm"),
        classes.task(steps=7),
        classes.task(seed=1),
        classes.task(labels=[1]),
    ]
    protocols = [json.dumps(task.protocol, sort_keys=True) for task in tasks]
    assert len(set(protocols)) == len(tasks)
    # As JSON, and not only in memory: it is written to files and compared.
    assert all(json.loads(text) == task.protocol for text, task in zip(protocols, tasks, strict=True))


def test_low_resolution_images_are_in_the_protocol(tiny_denoiser):
    model = SampledModel.of(tiny_denoiser(super_resolution={"factor": 2}, backbone={"in_channels": 2}))
    first, second = (model.task(low_res=torch.full((1, 1, 4, 4), value)) for value in (0.0, 0.5))
    assert first.protocol["low_res"] != second.protocol["low_res"]
    assert torch.equal(second.conditions([3])["low_res"], torch.full((1, 1, 4, 4), 0.5))
    with pytest.raises(PartError, match=r"^low_res: .*; give low-resolution images$"):
        model.task()


def test_another_condition_map_keeps_weights_and_names_both(plain):
    changed = plain.with_condition_map(ETSDM(t_tilde=200, n=2)).with_condition_map(ETSDM(t_tilde=100, n=4))
    assert changed.trained.backbone is plain.trained.backbone
    assert changed.protocol["trained_with_condition_map"] == {"type": "identity"}
    assert changed.protocol["denoiser"]["condition_map"]["n"] == 4
    assert not changed.trained.training
    with pytest.raises(PartError, match=r"^condition_map\.t_tilde: 5000 .* schedule's .*; give 1000 or less$"):
        plain.with_condition_map(ETSDM(t_tilde=5000))


def test_labels_are_all_classes_of_the_data(classes):
    assert classes.task().conditions(range(4))["y"].tolist() == [0, 1, 2, 0]
    assert classes._replace(data_classes=2).task().conditions(range(3))["y"].tolist() == [0, 1, 0]
    # The last label is guidance's null class.
    assert classes.with_guidance(2.0).task().conditions(range(3))["y"].tolist() == [0, 1, 0]


def test_guidance_survives_another_condition_map(classes):
    model = classes.with_guidance(3.0, (0.1, 2.0)).with_condition_map(ETSDM())
    assert isinstance(model.denoiser, ClassifierFreeGuidance)
    assert (model.denoiser.scale, model.denoiser.interval) == (3.0, (0.1, 2.0))
    assert model.denoiser.condition_map == ETSDM()


def test_the_default_sampler_is_used_unless_another_is_given(plain):
    model = plain._replace(sampler=DDIM(steps=4, eta=0.5))
    assert model.task().sampler == DDIM(steps=4, eta=0.5)
    assert model.task(steps=9).sampler == DDIM(steps=9, eta=0.5)
    assert model.task("ddim", steps=9).sampler == DDIM(steps=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [0]}, r"^labels: this denoiser is unconditional; leave them out$"),
        ({"chunk": 2}, r"^chunk: this denoiser has no first stage that decodes; leave it out$"),
        ({"sampler": {"variance": "learned"}}, r"^sampler\.variance: found 'learned', but .* give beta or posterior$"),
    ],
)
def test_options_that_do_not_fit_the_denoiser_are_refused(plain, options, message):
    given = {name: DDPM(**value) if name == "sampler" else value for name, value in options.items()}
    with pytest.raises(PartError, match=message):
        plain.task(**given)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], r"^labels: 3 is no class of this denoiser; give 0 to 2$"),
        ([-1], r"^labels: -1 is no class of this denoiser; give 0 to 2$"),
        ([], r"^labels: none are given; give some of 0 to 2$"),
    ],
)
def test_labels_that_are_no_classes_are_refused(classes, labels, message):
    with pytest.raises(PartError, match=message):
        classes.task(labels=labels)


def test_guidance_needs_a_null_class_and_a_finite_scale(classes, plain):
    with pytest.raises(PartError, match=r"^denoiser: its 3 labels are the classes of its data.* train with num_classes 4 "):
        classes._replace(data_classes=3).with_guidance(2.0)
    for scale in (float("nan"), float("inf")):
        with pytest.raises(PartError, match=r"^scale: .*; give a number, 1 for no guidance$"):
            classes.with_guidance(scale)
    with pytest.raises(ValueError, match=r"^denoiser: has no classes"):
        plain.with_guidance(2.0)
