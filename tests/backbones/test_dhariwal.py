import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.backbones.dhariwal import DhariwalUNet
from etsdm.randomness import seeded_global_rng
from etsdm.registry import format_errors

SMALL = {
    "image_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 64,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (16,),
}


def spec(**changes):
    return DhariwalUNet(**{**SMALL, **changes})


def test_the_defaults_are_those_of_the_original():
    part = DhariwalUNet(image_size=64, in_channels=3, out_channels=3)
    assert (part.model_channels, part.channel_mult, part.channel_mult_emb, part.num_blocks) == (192, (1, 2, 3, 4), 4, 3)
    assert (part.attn_resolutions, part.dropout, part.augment_dim) == ((32, 16, 8), 0.1, 0)


def test_attention_has_a_head_for_every_sixty_four_channels_in_all_blocks_of_its_levels():
    part = spec(channel_mult=(1, 3))
    way_in, way_out = ([[block.heads for block in level.blocks] for level in levels] for levels in (part.encoder, part.decoder))
    assert way_in == [[1], [0, 0]]
    # The lowest level begins with an attention though it is not asked for; the block that resamples has none.
    assert way_out == [[3, 0, 0, 0], [0, 1, 1]]


def test_levels_narrower_than_a_head_have_no_attention_and_draw_a_warning():
    message = r"^attn_resolutions: \[16\] have no attention, because they have fewer than the 64 channels of a head$"
    with pytest.warns(UserWarning, match=message):
        part = spec(model_channels=32)
    assert [block.heads for level in (*part.encoder, *part.decoder) for block in level.blocks] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_channels_that_do_not_split_into_their_heads_are_refused():
    with pytest.raises(ValidationError) as error:
        spec(model_channels=224, channel_mult=(1,))
    (problem,) = format_errors(error.value)
    assert problem.field == "model_channels"
    assert problem.message == "224 gives 16x16_block0 224 channels, which do not split into 3 heads; change it or channel_mult [1]"


def test_a_fresh_network_gives_exactly_zero():
    network = spec(num_classes=4).build().eval()
    assert network(torch.ones(2, 3, 16, 16), torch.tensor([0.0, 1.0]), torch.tensor([0, 3])).count_nonzero() == 0


def test_weights_are_uniform_within_the_inverse_root_of_the_fan_in():
    with seeded_global_rng(0, "test/weights"):
        network = spec(num_classes=10, augment_dim=9).build()
    for name, layer in network.named_modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        if name.endswith(("conv1", "proj")) or name in ("out_conv", "map_augment"):
            assert all(parameter.count_nonzero() == 0 for parameter in layer.parameters()), name
        elif name == "map_label":
            # N(0, 1); the standard error of a variance over 2,560 values is sqrt(2 / 2560) = 0.028.
            assert layer.bias is None
            assert layer.weight.square().mean().item() == pytest.approx(1, abs=0.14)
        else:
            bound = layer.weight[0].numel() ** -0.5
            for values in (layer.weight, layer.bias):
                assert values.abs().max() <= bound, name
                # The relative standard error of the variance of n uniform values is sqrt(4 / (5 n)).
                assert values.square().mean().item() == pytest.approx(bound**2 / 3, rel=6 * math.sqrt(0.8 / values.numel())), name
