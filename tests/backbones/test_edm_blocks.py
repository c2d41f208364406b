import pytest
import torch
from torch import nn

from etsdm.backbones.edm_blocks import Block, BlockPlan, BlockStyle, SelfAttentionBlock, make_block, norm_groups

ADM = BlockStyle(embed_channels=8, dropout=0.0, eps=1e-5, adaptive_scale=True)
SONG = BlockStyle(
    embed_channels=8, dropout=0.0, eps=1e-6, adaptive_scale=False, skip_scale=0.5**0.5, resample_filter=(1, 3, 3, 1), resample_proj=True
)


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def keys(plan, style, layer):
    return [key.partition(".")[2] for key in make_block(plan, style).state_dict() if key.startswith(f"{layer}.")]


@pytest.mark.parametrize(("channels", "groups"), [(3, 0), (4, 1), (48, 12), (124, 31), (128, 32), (192, 32), (1024, 32)])
def test_norms_have_up_to_thirty_two_groups_of_four_channels_or_more(channels, groups):
    assert norm_groups(channels) == groups


def test_an_attention_layer_is_there_where_there_are_heads():
    assert type(make_block(BlockPlan("a", 16, 16), ADM)) is Block
    assert type(make_block(BlockPlan("a", 16, 16, heads=2), ADM)) is SelfAttentionBlock


def test_the_skip_has_weights_where_the_width_changes_or_the_style_asks():
    assert keys(BlockPlan("a", 16, 16), SONG, "skip") == []
    assert keys(BlockPlan("a", 16, 32), SONG, "skip") == ["weight", "bias"]
    assert keys(BlockPlan("a", 16, 16, resample="up"), SONG, "skip") == ["weight", "bias", "resample_filter"]
    assert keys(BlockPlan("a", 16, 16, resample="up"), ADM, "skip") == ["resample_filter"]


@pytest.mark.parametrize("style", [ADM, SONG])
def test_a_block_with_an_empty_branch_scales_its_skip(style):
    block = make_block(BlockPlan("a", 16, 16), style)
    nn.init.zeros_(block.conv1.weight)
    nn.init.zeros_(block.conv1.bias)
    x = images(2, 16, 4, 4)
    assert torch.allclose(block(x, images(2, 8)), x * style.skip_scale)


def test_the_embedding_scales_and_shifts_the_normalised_activations():
    block = make_block(BlockPlan("a", 16, 16), ADM)
    # The branch is conv1(silu(scale' n + shift)), n the normalised activations; with conv1 the identity it shows.
    nn.init.dirac_(block.conv1.weight)
    nn.init.zeros_(block.conv1.bias)
    nn.init.zeros_(block.affine.weight)
    with torch.no_grad():
        block.affine.bias.copy_(torch.cat([torch.full((16,), -1.0), torch.full((16,), 3.0)]))
    x = images(2, 16, 4, 4)
    # scale' = 1 - 1 = 0, so silu(3) = 3 / (1 + exp(-3)) = 2.8577224 is added everywhere.
    assert torch.allclose(block(x, images(2, 8)) - x, torch.tensor(2.8577224), atol=1e-6)


def test_an_added_embedding_that_is_equal_in_a_group_is_normalised_away():
    block = make_block(BlockPlan("a", 16, 16), SONG)
    nn.init.zeros_(block.affine.weight)
    x, emb = images(2, 16, 4, 4), images(2, 8)
    expected = block(x, emb)
    with torch.no_grad():
        block.affine.bias += torch.tensor([5.0, -3.0, 2.0, 1.0]).repeat_interleave(4)
    assert torch.allclose(block(x, emb), expected, atol=1e-5)
    with torch.no_grad():
        block.affine.bias[0] += 5
    assert not torch.allclose(block(x, emb), expected, atol=1e-2)


@pytest.mark.parametrize("style", [ADM, SONG])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_torchs_multi_head_attention(heads, style):
    width = 16
    block = make_block(BlockPlan("a", width, width, heads), style)
    nn.init.zeros_(block.conv1.weight)
    nn.init.zeros_(block.conv1.bias)
    peer = nn.MultiheadAttention(width, heads, batch_first=True)
    # Ours has output channels (heads, d, qkv), torch's (qkv, heads, d).
    rows = torch.arange(3 * width).reshape(heads, width // heads, 3).permute(2, 0, 1).flatten()
    with torch.no_grad():
        block.norm2.weight.copy_(images(width))
        peer.in_proj_weight.copy_(block.qkv.weight[rows, :, 0, 0])
        peer.in_proj_bias.copy_(block.qkv.bias[rows])
        peer.out_proj.weight.copy_(block.proj.weight[:, :, 0, 0])
        peer.out_proj.bias.copy_(block.proj.bias)
    x = images(2, width, 4, 6)
    first = x * style.skip_scale
    pixels = block.norm2(first).flatten(2).transpose(1, 2)
    attended = peer(pixels, pixels, pixels, need_weights=False)[0].transpose(1, 2).reshape(x.shape)
    assert torch.allclose(block(x, images(2, 8)), (first + attended) * style.skip_scale, atol=1e-5)


@pytest.mark.parametrize("kernel", ["sdpa", "math"])
def test_the_kernel_of_attention_can_be_chosen(kernel):
    block = make_block(BlockPlan("a", 16, 16, heads=2), ADM)
    x, emb = images(2, 16, 4, 4), images(2, 8)
    expected = block(x, emb)
    block.kernel = kernel
    assert torch.allclose(block(x, emb), expected, atol=1e-6)
