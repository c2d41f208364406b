import warnings

import pytest
from pydantic import ValidationError
from small_adm import EVERY_OPTION, SMALL

from etsdm.backbones import ADMUNet, ADMUNetwork, Backbone
from etsdm.backbones.attention import AttentionBlock
from etsdm.errors import RegistryError
from etsdm.registry import backbones, format_errors


def spec(**changes):
    return ADMUNet(**{**SMALL, **changes})


def refused(**changes):
    """The field that is refused, and the sentence."""
    with pytest.raises(ValidationError) as error:
        spec(**changes)
    (problem,) = format_errors(error.value)
    return problem.field, problem.message


def test_the_part_is_registered_and_comes_back_from_its_dump():
    part = backbones.create("adm-unet", **SMALL, **EVERY_OPTION)
    assert part == spec(**EVERY_OPTION)
    assert backbones.parse(part.model_dump(mode="json")) == part
    assert isinstance(part, Backbone)
    assert isinstance(part.build(), ADMUNetwork)


def test_minus_one_means_not_set_as_in_the_original():
    assert spec(num_head_channels=-1, num_heads_upsample=-1) == spec()
    assert spec(num_heads=4, num_heads_upsample=-1).heads(32, in_decoder=True) == 4


def test_heads_follow_the_width_of_a_head_if_it_is_set():
    part = spec(num_heads=4, num_heads_upsample=2)
    assert (part.heads(32), part.heads(32, in_decoder=True)) == (4, 2)
    part = spec(num_heads=4, num_heads_upsample=2, num_head_channels=8)
    assert (part.heads(32), part.heads(32, in_decoder=True)) == (4, 4)


def test_widths_round_down_and_the_divisor_counts_the_halvings():
    part = spec(image_size=32, model_channels=256, channel_mult=(0.5, 1, 1.5))
    assert (part.widths, part.divisor) == ((128, 256, 384), 4)
    assert spec(channel_mult=(1,), attention_resolutions=(1,)).divisor == 1


def test_a_width_that_the_groups_do_not_divide_is_refused():
    assert refused(model_channels=20) == (
        "channel_mult.0",
        "1 times model_channels 20 gives 20 channels, not a multiple of norm_groups 8; change one of the three",
    )
    assert refused(channel_mult=(1, 0.01))[0] == "channel_mult.1"
    # The original always has 32 groups.
    assert ADMUNet.model_fields["norm_groups"].default == 32


def test_an_image_that_cannot_be_halved_is_refused():
    assert refused(image_size=9) == ("image_size", "9 is not a multiple of 2; give one, or fewer entries of channel_mult")


@pytest.mark.parametrize("field", ["num_heads", "num_head_channels", "num_heads_upsample"])
def test_heads_that_do_not_divide_the_channels_of_a_level_are_refused(field):
    assert refused(**{field: 5}) == (field, "5 does not divide the 32 channels of the attention in level 1; give a divisor")


@pytest.mark.parametrize("field", ["num_heads", "num_head_channels"])
def test_heads_that_do_not_divide_the_channels_of_the_middle_are_refused(field):
    message = "5 does not divide the 32 channels of the attention in the middle; give a divisor"
    assert refused(attention_resolutions=(), **{field: 5}) == (field, message)


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        # 32 channels at level 1, in heads of 8: one layer in, one in the middle, two out.
        ({"num_heads": 5, "num_heads_upsample": 7, "num_head_channels": 8}, [4, 4, 4, 4]),
        # Attention in the middle alone, which is not on the way out.
        ({"attention_resolutions": (), "num_heads_upsample": 5}, [1]),
        # 16 channels at level 0, which has no attention.
        ({"num_heads": 32}, [32, 32, 32, 32]),
    ],
)
def test_heads_that_are_not_used_are_not_checked(changes, heads):
    built = spec(**changes).build()
    assert [module.num_heads for module in built.modules() if isinstance(module, AttentionBlock)] == heads


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"model_channels": 0}, "model_channels", "found 0; give a value above 0"),
        ({"num_res_blocks": 0}, "num_res_blocks", "found 0; give a value above 0"),
        ({"channel_mult": ()}, "channel_mult", "found (); give 1 or more entries"),
        ({"channel_mult": (1, -2)}, "channel_mult.1", "found -2; give a value above 0"),
        ({"attention_resolutions": (0,)}, "attention_resolutions.0", "found 0; give a value above 0"),
        ({"dropout": 1.0}, "dropout", "found 1.0; give a value below 1"),
        ({"num_head_channels": 0}, "num_head_channels", "found 0; give a value above 0"),
        ({"num_classes": 0}, "num_classes", "found 0; give a value above 0"),
        ({"time_embed_dim": 0}, "time_embed_dim", "found 0; give a value above 0"),
        ({"num_resblocks": 2}, "num_resblocks", "unknown field; did you mean 'num_res_blocks'?"),
    ],
)
def test_a_field_out_of_bounds_is_refused(changes, field, message):
    found, sentence = refused(**changes)
    assert (found, sentence[: len(message)]) == (field, message)


def test_the_registry_names_part_and_field():
    with pytest.raises(RegistryError, match=r"backbone 'adm-unet': image_size: 9 is not a multiple of 2"):
        backbones.create("adm-unet", **{**SMALL, "image_size": 9})


def test_attention_factors_of_no_level_draw_a_warning():
    with pytest.warns(UserWarning, match=r"no level has the downsampling factors \[3, 16\]; the factors are \[1, 2\]"):
        spec(attention_resolutions=(16, 2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec(attention_resolutions=(2, 1))
