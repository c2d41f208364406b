import pytest
import torch
from torch import nn

from etsdm.backbones.adm import ADMUNet
from etsdm.backbones.base import Backbone
from etsdm.backbones.dit import DiT
from etsdm.backbones.mlp import MLP
from etsdm.backbones.network import Network
from etsdm.randomness import per_sample_normal, seeded_global_rng

ADM = ADMUNet(
    image_size=8,
    in_channels=2,
    model_channels=16,
    out_channels=2,
    num_res_blocks=1,
    attention_resolutions=(2,),
    channel_mult=(1, 2),
    norm_groups=8,
    dropout=0.3,
)
SPECS = {
    "adm-unet": ADM,
    "dit": DiT(image_size=8, in_channels=2, out_channels=2, patch_size=2, hidden_size=16, depth=3, num_heads=2, dropout=0.3, drop_path=0.4),
    "mlp": MLP(image_size=8, in_channels=2, out_channels=2, width=16, depth=3, time_embed_dim=8, dropout=0.3),
}
every_network = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def filled(spec):
    """A network in training mode without a layer of zeros."""
    with seeded_global_rng(0, "test/weights"):
        built = spec.build()
        for parameter in built.parameters():
            if parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.1)
    return built


def images(batch):
    return per_sample_normal(0, "test/images", range(batch), (2, 8, 8))


def gradients(network, x):
    """The output, and every gradient of a loss, with dropout from a named stream."""
    network.zero_grad()
    x = x.clone().requires_grad_()
    with seeded_global_rng(0, "test/dropout"):
        out = network(x, torch.linspace(1, 900, len(x)))
        # A draw after the forward pass, which a block that is computed again must not repeat.
        out.square().mean().backward()
        after = torch.rand(3)
    return [out.detach(), after, x.grad, *(parameter.grad for parameter in network.parameters())]


@every_network
def test_checkpointing_gives_the_same_output_and_gradients_bit_for_bit(spec):
    network = filled(spec)
    plain = gradients(network, images(3))
    network.gradient_checkpointing = True
    checkpointed = gradients(network, images(3))
    assert len(plain) == len(checkpointed)
    assert all(torch.equal(first, second) for first, second in zip(plain, checkpointed, strict=True))
    assert plain[3].count_nonzero() > 0


class Counting(nn.Module):
    """Counts how often it is computed."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.layer = nn.Linear(8, 8)

    def forward(self, h, scale):
        self.calls += 1
        return torch.sigmoid(self.layer(h)) * scale


class Blocks(Network):
    def __init__(self):
        super().__init__(MLP(image_size=1, in_channels=8, out_channels=8))
        self.blocks = nn.ModuleList(Counting() for _ in range(3))

    def forward(self, h):
        for block in self.blocks:
            h = self._run(block, h, 2.0)
        return h


@pytest.mark.parametrize(("checkpointing", "calls"), [(False, 1), (True, 2)])
def test_a_block_is_computed_again_only_in_a_backward_pass_with_checkpointing(checkpointing, calls):
    network = Blocks()
    network.gradient_checkpointing = checkpointing
    network(torch.ones(2, 8)).sum().backward()
    assert [block.calls for block in network.blocks] == [calls] * 3


def test_without_gradients_nothing_is_computed_again_or_kept():
    network = Blocks()
    network.gradient_checkpointing = True
    with torch.no_grad():
        out = network(torch.ones(2, 8))
    assert not out.requires_grad
    assert [block.calls for block in network.blocks] == [1] * 3


def kept_bytes(network, x):
    """What autograd keeps between the two passes."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x, torch.linspace(1, 900, len(x)))
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return sum(size for pointer, size in sizes.items() if pointer not in weights)


@every_network
def test_checkpointing_keeps_less(spec):
    network, x = filled(spec), images(8)
    before = kept_bytes(network, x)
    network.gradient_checkpointing = True
    assert kept_bytes(network, x) < 0.6 * before


@pytest.mark.parametrize("name", ["adm-unet", "dit"])
def test_a_checkpointed_network_is_one_graph(name):
    # One level of the U-Net has every kind of its blocks but resampling, and a quarter of the graph.
    one_level = {"channel_mult": (1,), "attention_resolutions": (1,)} if name == "adm-unet" else {}
    network = filled(SPECS[name].model_copy(update=one_level))
    network.gradient_checkpointing = True
    expected = gradients(network, images(2))
    # Capture is what can fail; this backend needs no C++ compiler and, unlike "eager", takes dropout's masks into the backward pass.
    network.compile(fullgraph=True, backend="aot_eager")
    found = gradients(network, images(2))
    assert all(torch.allclose(first, second, atol=1e-6) for first, second in zip(found, expected, strict=True))


@every_network
def test_forward_derivatives_go_through_checkpointed_networks(spec):
    network = filled(spec).eval()
    x, time = images(2), torch.tensor([3.0, 40.0])

    def tangent():
        return torch.func.jvp(lambda t: network(x, t), (time,), (torch.ones(2),))[1]

    plain = tangent()
    assert plain.count_nonzero() > 0
    network.gradient_checkpointing = True
    assert torch.equal(tangent(), plain)


@every_network
def test_a_network_knows_its_specification_and_keeps_it_out_of_the_weights(spec):
    network = filled(spec)
    assert network.spec == spec
    assert isinstance(spec, Backbone)
    network.gradient_checkpointing = True
    assert list(network.state_dict()) == list(filled(spec).state_dict())


@every_network
def test_a_wrong_call_is_refused_before_anything_is_computed(spec):
    network = filled(spec)
    calls = []
    for module in network.modules():
        if module is not network:
            module.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    x, time = images(2), torch.zeros(2)
    for wrong in [(x[:, :1], time), (x[:, :, :7], time), (x[0], time), (x, time[:1]), (x, time, torch.tensor([0, 1]))]:
        with pytest.raises(ValueError, match=r"; (give|leave out) "):
            network(*wrong)
    assert calls == []


@every_network
def test_networks_run_on_the_meta_device(spec):
    with torch.device("meta"):
        network = spec.build()
        out = network(torch.empty(3, 2, 8, 8), torch.empty(3))
    assert (out.device.type, out.shape) == ("meta", (3, 2, 8, 8))
