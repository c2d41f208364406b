import math

import pytest
from pydantic import ValidationError

from etsdm.registry import REGISTRIES, format_errors, json_schema
from etsdm.training import AdamW, CosineLR, PerStepEMA, Training


def training(**fields):
    return Training.model_validate({"images": 10_000, "batch_size": 100, "learning_rate": 1.0, **fields})


def refused(**fields):
    with pytest.raises(ValidationError) as error:
        training(**fields)
    return [(problem.field, problem.message) for problem in format_errors(error.value)]


def test_without_warmup_the_constant_rate_is_the_peak_throughout():
    assert [training().learning_rate_at(seen) for seen in (0, 5_000, 9_900)] == [1.0, 1.0, 1.0]


def test_warmup_rises_linearly_and_ends_at_the_peak():
    warm = training(warmup_images=900)
    assert [warm.learning_rate_at(seen) for seen in (0, 400, 900)] == pytest.approx([0.1, 0.5, 1.0])


def test_the_schedule_starts_where_the_warmup_ends():
    decayed = training(lr_schedule="cosine", warmup_images=2_000)
    assert decayed.learning_rate_at(1_900) == pytest.approx(2_000 / 2_100)
    assert decayed.learning_rate_at(6_000) == pytest.approx(0.5)
    assert decayed.learning_rate_at(4_000) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert decayed.learning_rate_at(10_000) == pytest.approx(0.0)


def test_parts_are_given_by_name_or_with_fields_and_dump_with_all_of_them():
    made = training(optimizer={"type": "adamw", "betas": [0.9, 0.99]}, lr_schedule="cosine", ema={"type": "per-step", "decay": 0.5})
    assert (made.optimizer, made.lr_schedule, made.ema) == (AdamW(betas=(0.9, 0.99)), CosineLR(), PerStepEMA(decay=0.5))
    dump = made.model_dump(mode="json")
    assert dump["optimizer"] == {"type": "adamw", "betas": [0.9, 0.99], "weight_decay": 0.0}
    assert dump["lr_schedule"] == {"type": "cosine"}
    assert Training.model_validate(dump) == made


@pytest.mark.parametrize("number", [0, 0.995])
def test_a_bare_number_is_the_decay_per_step_and_dumps_in_the_long_form(number):
    made = training(ema=number)
    assert made == training(ema=PerStepEMA(decay=number))
    assert made.model_dump(mode="json")["ema"] == {"type": "per-step", "decay": number, "rampup_ratio": 0.05}


def test_a_decay_out_of_range_is_refused_by_its_field():
    assert refused(ema=1) == [("ema.decay", "found 1; give a value below 1")]
    assert refused(ema=-0.1) == [("ema.decay", "found -0.1; give 0 or more")]


@pytest.mark.parametrize("value", [True, None, [0.9]])
def test_what_is_neither_a_number_nor_a_moving_average_is_refused(value):
    ((field, message),) = refused(ema=value)
    assert field == "ema"
    assert message.startswith(f"found {value!r}; give the name of a moving average")


def test_a_warmup_longer_than_the_training_is_refused():
    assert refused(warmup_images=10_001) == [
        ("warmup_images", "10001 images of warm-up are more than the 10000 of the training; give fewer")
    ]


def test_the_schema_has_the_registered_parts_and_the_number():
    schema = json_schema(Training, REGISTRIES)
    assert schema["properties"]["optimizer"]["$ref"] == "#/$defs/optimizers"
    assert {"$ref": "#/$defs/emas"} in schema["properties"]["ema"]["anyOf"]
    assert {"type": "number"} in schema["properties"]["ema"]["anyOf"]
    assert {"enum": ["constant", "cosine"]} in schema["$defs"]["lr_schedules"]["anyOf"]


@pytest.mark.parametrize(
    ("images", "log_every", "checkpoint_every"), [(7, 1, 1), (64_000, 640, 6_400), (1_000_000, 10_000, 100_000), (10**8, 10_000, 100_000)]
)
def test_intervals_follow_the_length_of_the_training(images, log_every, checkpoint_every):
    made = training(images=images, warmup_images=0)
    assert (made.log_every, made.checkpoint_every) == (log_every, checkpoint_every)
    assert training(images=images, log_every=3).log_every == 3


def test_intervals_of_a_length_that_is_refused_are_no_second_problem():
    assert [field for field, _ in refused(images=0)] == ["images"]
