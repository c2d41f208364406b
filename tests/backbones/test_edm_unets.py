"""What the specifications of `song-unet` and `dhariwal-unet` have in common."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.backbones import Backbone
from etsdm.backbones.dhariwal import DhariwalUNet
from etsdm.backbones.edm_network import EDMUNet
from etsdm.backbones.song import SongUNet
from etsdm.registry import backbones, format_errors

KINDS = {"song-unet": SongUNet, "dhariwal-unet": DhariwalUNet}
SMALL = {
    "image_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (),
}


def refused(kind, **changes):
    """The field that is refused, and the sentence."""
    with pytest.raises(ValidationError) as error:
        KINDS[kind](**{**SMALL, **changes})
    (problem,) = format_errors(error.value)
    return problem.field, problem.message


@pytest.mark.parametrize("kind", KINDS)
def test_the_part_is_registered_and_comes_back_from_its_dump(kind):
    part = backbones.create(kind, **SMALL, num_classes=10, augment_dim=9)
    assert type(part) is KINDS[kind]
    assert isinstance(part, Backbone)
    assert backbones.parse(part.model_dump(mode="json")) == part


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_with_the_part(kind):
    assert all(f"\n        {field}: " in KINDS[kind].__doc__ for field in KINDS[kind].model_fields)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"image_size": 9}, "image_size", "9 is not a multiple of 2; give one, or fewer entries of channel_mult"),
        ({"num_blocks": 0}, "num_blocks", "found 0; give a value above 0"),
        ({"channel_mult": ()}, "channel_mult", "found (); give 1 or more entries"),
        ({"channel_mult": (1, 0)}, "channel_mult.1", "found 0; give a value above 0"),
        ({"channel_mult": (1, 1.5)}, "channel_mult.1", "found 1.5; give an integer"),
        ({"attn_resolutions": (0,)}, "attn_resolutions.0", "found 0; give a value above 0"),
        ({"dropout": 1.0}, "dropout", "found 1.0; give a value below 1"),
        ({"label_dropout": 0.1}, "label_dropout", "unknown field"),
        ({"num_classes": 0}, "num_classes", "found 0; give a value above 0"),
        ({"augment_dim": -1}, "augment_dim", "found -1; give 0 or more"),
        ({"img_resolution": 8}, "img_resolution", "unknown field"),
    ],
)
def test_a_field_out_of_bounds_is_refused(kind, changes, field, message):
    found, sentence = refused(kind, **changes)
    assert (found, sentence[: len(message)]) == (field, message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("model_channels", "channel_mult", "problem"),
    [
        (2, (1, 2), "2 gives 8x8_block0 2 channels, and a group of its norms has 4; change it or channel_mult [1, 2]"),
        (5, (1, 2), "5 is odd, and the sinusoids come in pairs; change it or channel_mult [1, 2]"),
        # 96 + 48 = 144 channels with the skip, which 32 does not divide.
        (48, (1, 2), "48 gives 4x4_block1 144 channels, which its norms cannot split into 32 groups; change it or channel_mult [1, 2]"),
    ],
)
def test_widths_that_the_norms_cannot_split_are_refused(kind, model_channels, channel_mult, problem):
    assert refused(kind, model_channels=model_channels, channel_mult=channel_mult) == ("model_channels", problem)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_at_a_resolution_of_no_level_draws_a_warning(kind):
    wide = {**SMALL, "model_channels": 64}
    with pytest.warns(UserWarning, match=r"^attn_resolutions: .* \[16\]; the resolutions are \[4, 8\]$"):
        KINDS[kind](**{**wide, "attn_resolutions": (16, 8)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KINDS[kind](**{**wide, "attn_resolutions": (8, 4)})


@given(
    kind=st.sampled_from(sorted(KINDS)),
    channel_mult=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4),
    num_blocks=st.integers(1, 3),
    attn_resolutions=st.sets(st.sampled_from([8, 16, 32, 64])),
)
def test_every_activation_of_the_way_in_is_taken_on_the_way_out(kind, channel_mult, num_blocks, attn_resolutions):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part: EDMUNet = KINDS[kind](
            image_size=64,
            in_channels=3,
            out_channels=3,
            model_channels=64,
            channel_mult=channel_mult,
            num_blocks=num_blocks,
            attn_resolutions=attn_resolutions,
        )
    way_in = [block for level in part.encoder for block in level.blocks]
    skips = [part.stem_width, *(block.out_channels for block in way_in)]
    width = part.stem_width
    for block in way_in:
        assert block.in_channels == width
        width = block.out_channels
    for level in part.decoder:
        for block in level.blocks:
            assert block.in_channels == width + (skips.pop() if block.takes_skip else 0)
            width = block.out_channels
    assert skips == []
    assert width == part.widths[0]
    assert [level.tag for level in part.decoder] == [level.tag for level in reversed(part.encoder)]
    assert part.divisor == 2 ** (len(channel_mult) - 1)
    assert part.image_size // part.divisor == part.sizes[-1]
