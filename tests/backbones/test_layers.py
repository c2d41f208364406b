import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from etsdm.backbones.layers import Downsample, GroupNorm32, ResBlock, Stage, Upsample, conv3x3, timestep_embedding, zero_init


def block(**changes):
    arguments = {"embed_dim": 8, "norm_groups": 4, "dropout": 0.0, "use_scale_shift_norm": False, **changes}
    return ResBlock(8, 12, **arguments)


def filled(module):
    for index, parameter in enumerate(module.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(index))
    return module


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_timestep_embedding_is_cosines_then_sines_at_falling_frequencies():
    # Half of 6 channels: frequencies 1, 10000^(-1/3), 10000^(-2/3).
    frequencies = [1.0, 0.046415888336, 0.0021544346900]
    for t in (0.0, 2.0, 37.25):
        expected = [math.cos(t * w) for w in frequencies] + [math.sin(t * w) for w in frequencies]
        assert timestep_embedding(torch.tensor([t]), 6)[0].tolist() == pytest.approx(expected, abs=2e-6)


def test_timestep_embedding_in_four_channels_by_hand():
    # Frequencies 1 and 1/100: cos 2, cos 0.02, sin 2, sin 0.02.
    expected = [-0.41614684, 0.99980001, 0.90929743, 0.019998667]
    assert timestep_embedding(torch.tensor([2.0]), 4)[0].tolist() == pytest.approx(expected, abs=1e-7)


def test_timestep_embedding_takes_another_period():
    assert timestep_embedding(torch.tensor([3.0]), 4, max_period=4.0)[0, 1].item() == pytest.approx(math.cos(1.5), abs=1e-6)


def test_timestep_embedding_with_an_odd_dimension_ends_in_a_zero():
    embedding = timestep_embedding(torch.tensor([1.5, 700.0]), 7)
    assert torch.equal(embedding[:, :6], timestep_embedding(torch.tensor([1.5, 700.0]), 6))
    assert embedding[:, 6].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bfloat16])
def test_timestep_embedding_is_float32_whatever_the_time_is(dtype):
    embedding = timestep_embedding(torch.tensor([3, 128], dtype=dtype), 8)
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, timestep_embedding(torch.tensor([3.0, 128.0]), 8))


@given(st.floats(0, 1000, width=32))
def test_timestep_embedding_lies_on_circles(t):
    cosines, sines = timestep_embedding(torch.tensor([t]), 16).chunk(2, dim=1)
    assert torch.allclose(cosines**2 + sines**2, torch.ones(1, 8), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 4, 4), (3, 8, 9)])
def test_group_norm_gives_each_group_mean_zero_and_variance_one(shape):
    groups = GroupNorm32(4, 8)(5 + 3 * noise(*shape)).unflatten(1, (4, 2)).flatten(2)
    assert torch.allclose(groups.mean(2), torch.zeros(shape[0], 4), atol=1e-5)
    assert torch.allclose(groups.var(2, unbiased=False), torch.ones(shape[0], 4), atol=1e-4)


@pytest.mark.parametrize("half_precision_weights", [True, False])
def test_group_norm_of_bfloat16_is_computed_in_float32(half_precision_weights):
    norm = filled(GroupNorm32(4, 8))
    x = (100 + noise(2, 8, 4, 4)).bfloat16()
    if half_precision_weights:
        norm = norm.bfloat16()
    expected = F.group_norm(x.float(), 4, norm.weight.float(), norm.bias.float(), norm.eps)
    assert torch.equal(norm(x), expected.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(norm(x), expected.bfloat16())


def test_group_norm_keeps_float64():
    norm = GroupNorm32(4, 8).double()
    x = noise(2, 8, 4, 4).double()
    assert torch.equal(norm(x), F.group_norm(x, 4, norm.weight, norm.bias, norm.eps))


def test_group_norm_of_float32_copies_nothing():
    with torch.profiler.profile() as profile:
        GroupNorm32(4, 8)(noise(2, 8, 4, 4))
    assert not {"aten::copy_", "aten::_to_copy"} & {event.key for event in profile.key_averages()}


def test_zero_init_zeroes_every_parameter_and_gives_the_module_back():
    convolution = conv3x3(2, 3)
    assert zero_init(convolution) is convolution
    assert all(parameter.count_nonzero() == 0 and parameter.requires_grad for parameter in convolution.parameters())


def test_downsample_halves_and_upsample_doubles_by_a_convolution():
    x = noise(2, 3, 6, 8)
    down, up = Downsample(3), Upsample(3)
    assert torch.equal(down(x), F.conv2d(x, down.op.weight, down.op.bias, stride=2, padding=1))
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(up(x), F.conv2d(repeated, up.conv.weight, up.conv.bias, padding=1), atol=1e-6)


def test_a_fresh_residual_block_is_its_skip_connection():
    fresh = block()
    x = noise(2, 8, 4, 4)
    assert torch.equal(fresh(x, noise(2, 8)), fresh.skip_connection(x))
    unchanged = ResBlock(8, 8, embed_dim=8, norm_groups=4, dropout=0.0, use_scale_shift_norm=True)
    assert torch.equal(unchanged(x, noise(2, 8)), x)


def test_the_embedding_is_added_before_the_second_norm():
    res, x, emb = filled(block()), noise(2, 8, 4, 4), noise(2, 8)
    convolution = res.in_layers[2](F.silu(res.in_layers[0](x)))
    shifted = convolution + res.emb_layers(emb)[:, :, None, None]
    expected = res.skip_connection(x) + res.out_layers[3](F.silu(res.out_layers[0](shifted)))
    assert torch.allclose(res(x, emb), expected, atol=1e-5)


def test_the_embedding_scales_by_one_plus_scale_and_shifts_after_the_second_norm():
    res, x, emb = filled(block(use_scale_shift_norm=True)), noise(2, 8, 4, 4), noise(2, 8)
    convolution = res.in_layers[2](F.silu(res.in_layers[0](x)))
    scale, shift = res.emb_layers(emb)[:, :12, None, None], res.emb_layers(emb)[:, 12:, None, None]
    normed = res.out_layers[0](convolution) * (1 + scale) + shift
    expected = res.skip_connection(x) + res.out_layers[3](F.silu(normed))
    assert torch.allclose(res(x, emb), expected, atol=1e-5)


@pytest.mark.parametrize(("resample", "size"), [(nn.AvgPool2d(2), 2), (nn.Upsample(scale_factor=2.0), 8)])
def test_a_resampling_block_resamples_branch_and_skip(resample, size):
    res, x, emb = filled(block(resample=resample)), noise(2, 8, 4, 4), noise(2, 8)
    branch = res.in_layers[2](resample(F.silu(res.in_layers[0](x)))) + res.emb_layers(emb)[:, :, None, None]
    expected = res.skip_connection(resample(x)) + res.out_layers[3](F.silu(res.out_layers[0](branch)))
    assert res(x, emb).shape == (2, 12, size, size)
    assert torch.allclose(res(x, emb), expected, atol=1e-5)


def test_dropout_acts_in_training_alone_and_on_the_branch_alone():
    res, x, emb = filled(block(dropout=0.9)), noise(2, 8, 4, 4), noise(2, 8)
    without = filled(block())
    assert torch.equal(res.eval()(x, emb), without(x, emb))
    assert not torch.equal(res.train()(x, emb), without(x, emb))
    zero_init(res.out_layers[3])
    assert torch.equal(res(x, emb), res.skip_connection(x))


def test_a_stage_hands_the_embedding_to_residual_blocks_alone():
    res, convolution = filled(block()), conv3x3(12, 2)
    x, emb = noise(2, 8, 4, 4), noise(2, 8)
    assert torch.equal(Stage([res, convolution])(x, emb), convolution(res(x, emb)))
