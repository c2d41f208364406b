"""Wrapped networks that are compiled, in data parallelism, or in another precision."""

import diffusers
import pytest
import torch
from torch import nn
from wrapped_networks import ETSDM, MAPPED, SHAPE, T, by_hand, images, output, unet, wrapped

import etsdm
from etsdm.randomness import per_sample_normal

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(()))

    def forward(self, x, t):
        return x * self.weight + t[:, None, None, None]


def test_a_compiled_network_is_read_inside():
    net = unet(num_class_embeds=3)
    denoiser = wrapped(torch.compile(net, backend="eager"))  # not called, because tracing takes long
    assert (denoiser.shape, denoiser.num_classes) == (SHAPE, 3)
    assert set(denoiser.backbone.state_dict()) == {f"network.{key}" for key in net.state_dict()}


def test_a_checkpoint_of_a_compiled_network_fits_the_network_itself(tmp_path):
    net = Net()
    denoiser = wrapped(torch.compile(net, backend="eager"), shape=SHAPE)
    assert torch.equal(output(denoiser), net(images(), T))
    etsdm.save(denoiser, tmp_path / "saved")
    for fresh in (Net(), torch.compile(Net(), backend="eager")):
        found = etsdm.load(tmp_path / "saved", backbone=fresh)
        assert torch.equal(output(found), net(images(), T))


def test_a_network_in_data_parallelism(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        net = unet()
        denoiser = wrapped(nn.parallel.DistributedDataParallel(net), condition_map=ETSDM)
        assert torch.equal(output(denoiser), by_hand(net, MAPPED))
        assert set(denoiser.backbone.state_dict()) == {f"network.{key}" for key in net.state_dict()}
        denoiser.output(images(), T).square().mean().backward()
        assert net.conv_in.weight.grad.abs().max() > 0
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_is_called_in_it(dtype):
    net = unet().to(dtype)
    found = output(wrapped(net))
    assert found.dtype == torch.float32
    assert torch.equal(found, by_hand(net, x=images().to(dtype)).float())


def test_conditions_are_given_in_the_networks_precision():
    sizes = {"cross_attention_dim": 12, "attention_head_dim": 4, "block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    net = diffusers.UNet2DConditionModel(sample_size=8, in_channels=1, out_channels=1, **sizes, **blocks).to(torch.bfloat16).eval()
    text = per_sample_normal(0, "test/text", range(1), (3, 12))
    fixed, given = wrapped(net, conditions={"encoder_hidden_states": text}), wrapped(net)
    with torch.no_grad():
        x, states = images().bfloat16(), text.bfloat16().expand(4, -1, -1)
        expected = net(x, T, states).sample.float()
        assert torch.equal(output(fixed), expected)
        assert torch.equal(given.output(images(), T, encoder_hidden_states=text.expand(4, -1, -1)), expected)
