"""Every field of a recipe, and the stages whose digest it changes: a field without a line here fails."""

from pathlib import Path

import pytest

import etsdm
from etsdm.metrics import Evaluation
from etsdm.registry import metrics
from etsdm.runs.digests import find_inputs, stage_dependencies, stage_digests
from etsdm.sampling.config import Sampling
from etsdm.training.config import Training

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
TRAIN, SAMPLE, EVALUATE = ["train", "samples", "values"], ["samples", "values"], ["values"]

# Another value of each field than tiny.yaml's, and what it changes.
TRAINING = {
    "images": (640, TRAIN),
    "batch_size": (16, TRAIN),
    "loss": ({"type": "mse", "weighting": "p2"}, TRAIN),
    "time_sampler": ({"type": "soft-truncation"}, TRAIN),
    "optimizer": ("adamw", TRAIN),
    "learning_rate": (1e-3, TRAIN),
    "warmup_images": (32, TRAIN),
    "lr_schedule": ("constant", TRAIN),
    "gradient_clip": (1.0, TRAIN),
    "flip": (True, TRAIN),
    "ema": (0.5, TRAIN),
    "log_every": (32, []),
    "checkpoint_every": (64, []),
    "keep_checkpoints": (1, []),
    "first_stage_weights": ("vq.safetensors", []),  # counts by its content
}
NEEDS_OTHER_DATA = {"label_dropout", "random_crop"}
SAMPLING = {
    "sampler": ({"type": "ddim", "steps": 4}, SAMPLE),
    "n": (8, SAMPLE),
    "seed": (1, SAMPLE),
    "batch_size": (4, []),
    "weights": ("current", SAMPLE),
}
OF_LABELS = {"labels": ((3, 1), ()), "guidance": (2.0, ()), "guidance_interval": ((0.1, 2.0), ("sampling.guidance=3",))}
EVALUATION = {
    "metrics": (["recognition"], EVALUATE),
    "seed": (1, EVALUATE),
    "weights": ("current", EVALUATE),
    "edges": ((0.0, 10.0), EVALUATE),
}
METRICS = {
    "loss-per-t": {"loss": {"type": "mse", "weighting": "p2"}, "fine": 20, "coarse": 100, "batch_size": 32},
    "lipschitz": {"images": 8, "start": 2, "stop": 40, "batch_size": 32},
    "pixel-frechet": {"chunks": 3},
    "recognition": {"regularisation": 1.0},
}


def recipe(**sections):
    """The baseline of tiny.yaml with other fields in some sections."""
    base = etsdm.build(TINY).arms["baseline"]
    return base.model_copy(update={name: getattr(base, name).model_copy(update=fields) for name, fields in sections.items()})


def digests(changed, seed=0):
    return stage_digests(stage_dependencies(changed, seed, find_inputs(changed)))._asdict()


def changes(**sections):
    """The stages whose digests differ from tiny.yaml's."""
    before, after = digests(recipe()), digests(recipe(**sections))
    return [stage for stage in before if before[stage] != after[stage]]


def test_every_field_is_listed():
    assert TRAINING.keys() | NEEDS_OTHER_DATA == Training.model_fields.keys()
    assert SAMPLING.keys() | OF_LABELS.keys() == Sampling.model_fields.keys()
    assert EVALUATION.keys() == Evaluation.model_fields.keys()
    for name, fields in METRICS.items():
        assert fields.keys() | {"name"} == metrics[name].model_fields.keys()
    assert METRICS.keys() == set(metrics.names())


@pytest.mark.parametrize(
    ("section", "field", "value", "stages"),
    [
        (section, field, *case)
        for section, fields in (("training", TRAINING), ("sampling", SAMPLING), ("evaluation", EVALUATION))
        for field, case in fields.items()
    ],
)
def test_a_changed_field_changes_the_digests_that_depend_on_it(section, field, value, stages):
    assert getattr(recipe(**{section: {field: value}}), section) != getattr(recipe(), section)
    assert changes(**{section: {field: value}}) == stages


def test_dropped_labels_change_the_training():
    base = etsdm.build(TINY, "model.backbone.num_classes=11", "training.label_dropout=0.1").arms["baseline"]
    other = etsdm.build(TINY, "model.backbone.num_classes=11", "training.label_dropout=0.2").arms["baseline"]
    assert digests(base)["train"] != digests(other)["train"]


@pytest.mark.parametrize("field", OF_LABELS)
def test_labels_and_guidance_change_the_samples(field):
    value, overrides = OF_LABELS[field]
    base = etsdm.build(TINY, "model.backbone.num_classes=11", "training.label_dropout=0.1", *overrides).arms["baseline"]
    other = base.model_copy(update={"sampling": base.sampling.model_copy(update={field: value})})
    before, after = digests(base), digests(other)
    assert before["train"] == after["train"]
    assert before["samples"] != after["samples"]


@pytest.mark.parametrize(
    "override", ["seeds=[1]", "model.target=v", "model.backbone.dropout=0.1", "data.held_out=0.1", "data.split_seed=1"]
)
def test_seed_model_and_data_change_the_training(override):
    base, other = (etsdm.build(TINY, *overrides).arm("baseline").runs[0].digests for overrides in ((), (override,)))
    assert base.train != other.train


@pytest.mark.parametrize("override", ["compute={threads: 2, jobs: 2, device: cpu, attention: math}", "description=another", "name=another"])
def test_how_it_runs_and_what_it_is_called_changes_nothing(override):
    base, other = (etsdm.build(TINY, *overrides).arm("baseline").runs[0].digests for overrides in ((), (override,)))
    assert base == other


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in METRICS.items() for field in fields])
def test_a_changed_field_of_a_metric_changes_its_value_alone(name, field):
    kept = metrics.create("lipschitz", stop=3)
    before, after = (
        digests(recipe(evaluation={"metrics": (kept, metrics.create(name, **fields))})) for fields in ({}, {field: METRICS[name][field]})
    )
    assert (before["train"], before["samples"]) == (after["train"], after["samples"])
    assert before["values"].keys() & after["values"].keys() == {kept.file_stem}
    assert before["values"][kept.file_stem] == after["values"][kept.file_stem]
    [a], [b] = (set(found["values"].values()) - {before["values"][kept.file_stem]} for found in (before, after))
    assert a != b


def test_the_name_of_a_metric_is_where_its_value_is_and_not_what_it_depends_on():
    before, after = (digests(recipe(evaluation={"metrics": (metrics.create("recognition", **name),)})) for name in ({}, {"name": "sure"}))
    assert (list(before["values"]), list(after["values"])) == (["default/recognition"], ["default/sure"])
    assert list(before["values"].values()) == list(after["values"].values())
