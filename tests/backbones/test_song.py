import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.backbones.song import SongUNet
from etsdm.randomness import seeded_global_rng
from etsdm.registry import format_errors

SMALL = {
    "image_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_blocks": 2,
    "attn_resolutions": (8,),
}
NCSNPP = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual", "resample_filter": (1, 3, 3, 1)}


def spec(**changes):
    return SongUNet(**{**SMALL, **changes})


def refused(**changes):
    with pytest.raises(ValidationError) as error:
        spec(**changes)
    (problem,) = format_errors(error.value)
    return problem.field, problem.message


def test_the_defaults_are_those_of_the_original():
    part = SongUNet(image_size=32, in_channels=3, out_channels=3)
    assert (part.model_channels, part.channel_mult, part.channel_mult_emb, part.num_blocks) == (128, (1, 2, 2, 2), 4, 4)
    assert (part.attn_resolutions, part.dropout, part.augment_dim) == ((16,), 0.1, 0)
    assert (part.embedding_type, part.channel_mult_noise, part.resample_filter) == ("positional", 1, (1, 1))
    assert (part.encoder_type, part.decoder_type) == ("standard", "standard")


def test_attention_is_in_every_block_on_the_way_in_and_in_the_last_on_the_way_out():
    part = spec()
    heads = {block.name: block.heads for level in (*part.encoder, *part.decoder) for block in level.blocks}
    # The way in and the way out share names; the dictionary holds the latter's.
    assert [block.heads for block in part.encoder[1].blocks] == [0, 1, 1]
    assert heads == {
        **{f"16x16_{name}": 0 for name in ("up", "block0", "block1", "block2")},
        "8x8_down": 0,
        "8x8_in0": 1,
        "8x8_in1": 0,
        "8x8_block0": 0,
        "8x8_block1": 0,
        "8x8_block2": 1,
    }


def test_a_filter_that_cannot_resample_is_refused():
    message = "[1.0, 2.0, 1.0] has 3 values, so it cannot halve and double sizes; give an even number"
    assert refused(resample_filter=(1, 2, 1)) == ("resample_filter", message)
    message = "[1.0, -1.0] sums to 0, so it cannot be scaled to 1; give another"
    assert refused(resample_filter=(1, -1)) == ("resample_filter", message)
    assert refused(resample_filter=())[0] == "resample_filter"


@pytest.mark.parametrize("field", ["embedding_type", "encoder_type", "decoder_type"])
def test_another_type_of_part_is_refused(field):
    found, message = refused(**{field: "plain"})
    assert found == field
    assert message.startswith("found 'plain'; give 'standard'" if field != "embedding_type" else "found 'plain'; give 'positional'")


def test_the_sinusoids_of_the_noise_level_are_counted_in_pairs():
    assert refused(model_channels=5)[0] == "model_channels"
    assert spec(model_channels=12, channel_mult=(1,), attn_resolutions=(), channel_mult_noise=3).noise_channels == 36


@pytest.mark.parametrize("options", [{}, NCSNPP, {"encoder_type": "skip", "decoder_type": "skip"}])
def test_weights_are_xavier_uniform_with_the_published_gains(options):
    with seeded_global_rng(0, "test/weights"):
        network = spec(model_channels=32, num_classes=10, augment_dim=9, **options).build()
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    gains = {"conv1": 1e-5, "proj": 1e-5, "aux_conv": 1e-5, "qkv": math.sqrt(0.2)}
    for name, layer in layers.items():
        assert layer.bias is None or layer.bias.count_nonzero() == 0, name
        fan_out, fan_in = layer.weight.shape[:2]
        bound = next((gain for end, gain in gains.items() if name.endswith(end)), 1.0)
        bound *= math.sqrt(6 / ((fan_in + fan_out) * layer.weight[0, 0].numel()))
        count = layer.weight.numel()
        assert layer.weight.abs().max() <= bound * (1 + 1e-6), name
        assert layer.weight.abs().max() > bound * (1 - 20 / count), name
        # The relative standard error of the variance of n uniform values is sqrt(4 / (5 n)).
        assert layer.weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=6 * math.sqrt(0.8 / count)), name


def test_small_outputs_and_halved_residual_sums_keep_a_fresh_network_near_zero():
    with seeded_global_rng(0, "test/weights"):
        network = spec(**NCSNPP).build().eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert network(x, torch.tensor([-1.0, 1.0])).abs().max() < 1e-3
