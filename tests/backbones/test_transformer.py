import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etsdm.backbones.attention import PixelConv
from etsdm.backbones.transformer import CrossAttention, FeedForward, GatedGELU, SpatialTransformer, TransformerBlock


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(module):
    for index, parameter in enumerate(module.parameters()):
        nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(index))
    return module


def transformer(**changes):
    arguments = {"num_heads": 2, "head_channels": 5, "depth": 2, "context_dim": 3, "norm_groups": 4, **changes}
    return SpatialTransformer(8, **arguments)


@pytest.mark.parametrize("heads", [1, 3])
def test_cross_attention_is_the_formula_head_by_head(heads):
    layer = filled(CrossAttention(8, 3, num_heads=heads, head_channels=4))
    x, context = noise(0, 2, 6, 8), noise(1, 2, 5, 3)
    outputs = []
    for head in range(heads):
        q, k, v = (part[..., 4 * head : 4 * head + 4] for part in (layer.to_q(x), layer.to_k(context), layer.to_v(context)))
        outputs.append(torch.softmax(q @ k.mT / math.sqrt(4), dim=-1) @ v)
    assert torch.allclose(layer(x, context), layer.to_out(torch.cat(outputs, dim=-1)), atol=1e-5)


def test_the_gate_is_the_second_half_and_the_gelu_the_exact_one():
    gate = GatedGELU(1, 1)
    with torch.no_grad():
        gate.proj.weight.copy_(torch.tensor([[2.0], [1.0]]))
        gate.proj.bias.zero_()
    # 2 * gelu(1) = 2 * (1 + erf(1 / sqrt 2)) / 2; the approximation by tanh would be off by 3e-4.
    assert gate(torch.ones(1, 1, 1)).item() == pytest.approx(1 + math.erf(math.sqrt(0.5)), abs=1e-6)


def test_the_feed_forward_is_four_times_as_wide_as_its_tokens():
    layer = FeedForward(8)
    assert (layer.net[0].proj.out_features, layer.net[2].in_features) == (64, 32)


def test_a_block_adds_self_attention_then_the_context_then_feed_forward():
    block = filled(TransformerBlock(8, 3, num_heads=2, head_channels=4))
    x, context = noise(0, 2, 6, 8), noise(1, 2, 5, 3)
    h = x + block.attn1(block.norm1(x), block.norm1(x))
    h = h + block.attn2(block.norm2(h), context)
    h = h + block.ff(block.norm3(h))
    assert torch.allclose(block(x, context), h, atol=1e-5)


def test_the_pixels_are_tokens_between_two_projections_and_the_skip():
    layer, x, context = filled(transformer()), noise(0, 2, 8, 4, 6), noise(1, 2, 5, 3)
    # F.group_norm with the epsilon of the original, 1e-6; small inputs tell it from 1e-5.
    x = 1e-3 * x
    h = F.conv2d(F.group_norm(x, 4, layer.norm.weight, layer.norm.bias, 1e-6), layer.proj_in.weight, layer.proj_in.bias)
    tokens = h.flatten(2).transpose(1, 2)
    for block in layer.transformer_blocks:
        tokens = block(tokens, context)
    h = F.conv2d(tokens.transpose(1, 2).unflatten(2, (4, 6)), layer.proj_out.weight, layer.proj_out.bias)
    assert torch.allclose(layer(x, context), x + h, atol=1e-4)


def test_heads_may_have_another_width_than_the_level():
    layer = transformer(num_heads=3, head_channels=7)
    assert layer.proj_in.weight.shape == (21, 8, 1, 1)
    assert layer.transformer_blocks[0].attn1.to_q.weight.shape == (21, 21)


def test_a_fresh_transformer_is_the_identity():
    x = noise(0, 2, 8, 4, 6)
    assert torch.equal(transformer()(x, noise(1, 2, 5, 3)), x)


def test_pixel_conv_is_a_one_by_one_convolution():
    layer, x = PixelConv(6, 4), noise(0, 2, 6, 3, 5)
    expected = F.conv2d(x, layer.weight, layer.bias)
    assert torch.allclose(layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (3, 5)), expected, atol=1e-6)
