import pytest
from pydantic import ValidationError
from small_adm import SMALL

from etsdm.backbones import ADMUNet, Backbone, LDMUNet, LDMUNetwork
from etsdm.errors import PartError
from etsdm.registry import backbones, format_errors

TRANSFORMER = {"use_spatial_transformer": True, "context_dim": 6}


def spec(**changes):
    return LDMUNet(**{**SMALL, **changes})


def refused(**changes):
    """The field that is refused, and the sentence."""
    with pytest.raises(ValidationError) as error:
        spec(**changes)
    (problem,) = format_errors(error.value)
    return problem.field, problem.message


def test_the_part_is_registered_and_comes_back_from_its_dump():
    part = backbones.create("ldm-unet", **SMALL, **TRANSFORMER, transformer_depth=2)
    dumped = part.model_dump(mode="json")
    assert dumped["type"] == "ldm-unet"
    assert backbones.parse(dumped) == part
    assert isinstance(part, Backbone)
    assert isinstance(part.build(), LDMUNetwork)


def test_it_is_not_the_adm_unet_of_the_same_fields():
    assert spec() != ADMUNet(**SMALL)
    assert ADMUNet.type_name == "adm-unet"


def test_heads_of_the_way_out_may_differ_in_legacy_attention_alone():
    heads = {"num_heads": 4, "num_heads_upsample": 2}
    assert spec(**heads).heads(32, on_the_way_out=True) == 2
    assert spec(**heads, legacy=False).heads(32, on_the_way_out=True) == 4
    assert spec(**heads, **TRANSFORMER).heads(32, on_the_way_out=True) == 4


@pytest.mark.parametrize(
    ("legacy", "fields", "expected"),
    [
        (True, {"num_heads": 4}, (4, 8)),
        (False, {"num_heads": 4}, (4, 8)),
        # 32 channels hold one head of 24: legacy makes it as wide as the level.
        (True, {"num_head_channels": 24}, (1, 32)),
        (False, {"num_head_channels": 24}, (1, 24)),
        (True, {"num_heads": 4, "num_head_channels": 16}, (2, 16)),
        (True, {"num_heads": 5}, (5, 6)),
        (True, {"num_heads": -1, "num_head_channels": 8}, (4, 8)),
    ],
)
def test_heads_of_a_transformer_and_their_channels(legacy, fields, expected):
    part = spec(legacy=legacy, **fields, **TRANSFORMER)
    assert (part.heads(32), part.head_channels(32)) == expected


def test_transformers_need_a_context_and_nothing_else_takes_one():
    message = "is missing; give the channels of the context, which use_spatial_transformer needs"
    assert refused(use_spatial_transformer=True) == ("context_dim", message)
    message = "6 is given, but only spatial transformers take a context; set use_spatial_transformer"
    assert refused(context_dim=6) == ("context_dim", message)


def test_more_heads_than_channels_are_refused():
    message = "33 is more than the 32 channels of a spatial transformer; give 32 or less"
    assert refused(num_heads=33, **TRANSFORMER) == ("num_heads", message)
    assert refused(num_head_channels=33, **TRANSFORMER) == ("num_head_channels", message)
    # Level 0 has 16 channels.
    message = "32 is more than the 16 channels of a spatial transformer; give 16 or less"
    assert refused(num_head_channels=32, attention_resolutions=(1,), **TRANSFORMER) == ("num_head_channels", message)
    spec(num_head_channels=32, attention_resolutions=(), **TRANSFORMER)


def test_heads_of_plain_attention_divide_the_channels():
    assert refused(num_heads=5) == ("num_heads", "5 does not divide the 32 channels of the attention in level 1; give a divisor")


@pytest.mark.parametrize("field", ["transformer_depth", "context_dim"])
def test_a_field_out_of_bounds_is_refused(field):
    assert refused(**{**TRANSFORMER, field: 0}) == (field, "found 0; give a value above 0")


def test_a_label_becomes_the_context_only_with_classes_and_transformers():
    message = "a label becomes a context only with classes and spatial transformers; set num_classes and context_dim"
    for fields in ({}, {"num_classes": 4}, TRANSFORMER):
        assert refused(label_context=True, **fields) == ("label_context", message)


def test_a_context_is_taken_unless_it_is_made_of_labels():
    assert not spec().takes_context
    assert spec(**TRANSFORMER).takes_context
    assert spec(**TRANSFORMER, num_classes=4).takes_context
    made = spec(**TRANSFORMER, num_classes=4, label_context=True)
    assert not made.takes_context
    assert [set(part.empty_inputs(2)[2]) for part in (spec(**TRANSFORMER), made)] == [{"context"}, {"y"}]
    assert backbones.parse(made.model_dump(mode="json")) == made


def test_the_embedding_of_labels_is_all_that_the_class_conditional_preset_has_more():
    # CompVis' ClassEmbedder is an embedding of 1,000 labels in 512 channels (models/ldm/cin256/config.yaml).
    plain, labelled = (backbones.create(name).summary() for name in ("ldm-cin256", "ldm-cin256-labels"))
    assert labelled.parameters - plain.parameters == 1000 * 512
    assert labelled.flops == plain.flops


def test_a_context_has_to_be_among_the_conditions_unless_it_is_made_of_labels():
    needs = spec(**TRANSFORMER, num_classes=4)
    with pytest.raises(PartError, match=r"^context_dim: 6 channels of a context, .*; set label_context") as error:
        needs.check({"y"})
    assert error.value.path == ("context_dim",)
    needs.check({"y", "context"})
    spec(**TRANSFORMER, num_classes=4, label_context=True).check({"y"})
