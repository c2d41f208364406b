import pytest
import torch
from torch import nn

from etsdm.backbones.attention import AttentionBlock, PixelLinear


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def block(channels=8, heads=2, new_order=False):
    attention = AttentionBlock(channels, heads, norm_groups=4, use_new_attention_order=new_order)
    for index, parameter in enumerate(attention.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    return attention


def by_formula(attention, x):
    """softmax(q^T k / sqrt(d)) v, one head at a time, from the definition of the two channel orders."""
    batch, channels, height, width = x.shape
    pixels = attention.norm(x).reshape(batch, channels, -1)
    qkv = nn.functional.conv1d(pixels, attention.qkv.weight, attention.qkv.bias)
    heads, d = attention.num_heads, channels // attention.num_heads
    outputs = []
    for head in range(heads):
        if attention.use_new_attention_order:
            starts = [part * channels + head * d for part in range(3)]
        else:
            starts = [(3 * head + part) * d for part in range(3)]
        q, k, v = (qkv[:, start : start + d] for start in starts)
        # The original scales q and k by d^(-1/4) each.
        weights = torch.softmax((q * d**-0.25).transpose(1, 2) @ (k * d**-0.25), dim=-1)
        outputs.append(v @ weights.transpose(1, 2))
    h = nn.functional.conv1d(torch.cat(outputs, dim=1), attention.proj_out.weight, attention.proj_out.bias)
    return x + h.reshape(batch, channels, height, width)


@pytest.mark.parametrize("new_order", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention_is_the_formula_in_both_channel_orders(heads, new_order):
    attention, x = block(8, heads, new_order), noise(3, 8, 4, 6)
    assert torch.allclose(attention(x), by_formula(attention, x), atol=2e-5)


def test_the_channel_orders_differ_for_several_heads_and_agree_for_one():
    x = noise(2, 8, 4, 4)
    assert torch.equal(block(8, 1, False)(x), block(8, 1, True)(x))
    assert not torch.allclose(block(8, 2, False)(x), block(8, 2, True)(x), atol=1e-3)


def test_attention_has_the_keys_and_shapes_of_width_one_convolutions():
    shapes = {key: tuple(value.shape) for key, value in block().state_dict().items()}
    assert shapes == {
        "norm.weight": (8,),
        "norm.bias": (8,),
        "qkv.weight": (24, 8, 1),
        "qkv.bias": (24,),
        "proj_out.weight": (8, 8, 1),
        "proj_out.bias": (8,),
    }


def test_fresh_attention_is_the_identity():
    x = noise(2, 8, 4, 4)
    assert torch.equal(AttentionBlock(8, 2, norm_groups=4, use_new_attention_order=False)(x), x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_attention_keeps_the_memory_format(memory_format):
    attention, x = block(), noise(2, 8, 4, 6)
    out = attention(x.to(memory_format=memory_format))
    assert out.is_contiguous(memory_format=memory_format)
    assert torch.allclose(out, attention(x), atol=1e-5)


def test_attention_does_not_know_where_pixels_are():
    attention, x = block(), noise(2, 8, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    assert torch.allclose(attention(shuffled), attention(x).flatten(2)[:, :, order].reshape(x.shape), atol=1e-5)


def test_pixel_linear_is_a_convolution_of_width_one():
    linear, x = PixelLinear(6, 4), noise(2, 6, 10)
    expected = nn.functional.conv1d(x, linear.weight, linear.bias)
    assert torch.allclose(linear(x.transpose(1, 2)).transpose(1, 2), expected, atol=1e-6)
