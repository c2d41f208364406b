import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.backbones.adm import ADMUNet
from etsdm.backbones.dit import DiT
from etsdm.backbones.execution import Execution, compiler_options
from etsdm.backbones.kernels import Attention
from etsdm.backbones.mlp import MLP
from etsdm.backbones.network import Network
from etsdm.randomness import per_sample_normal, seeded_global_rng

SPECS = {
    "adm-unet": ADMUNet(
        image_size=8,
        in_channels=3,
        model_channels=16,
        out_channels=3,
        num_res_blocks=1,
        attention_resolutions=(1, 2),
        channel_mult=(1, 2),
        num_head_channels=8,
        norm_groups=8,
        dropout=0.1,
        resblock_updown=True,
        use_scale_shift_norm=True,
    ),
    "dit": DiT(image_size=8, in_channels=3, out_channels=3, patch_size=2, hidden_size=16, depth=2, num_heads=2, dropout=0.1),
}
every_network = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def filled(spec):
    with seeded_global_rng(0, "test/weights"):
        built = spec.build().eval()
        for parameter in built.parameters():
            if parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.1)
    return built


def call(network, batch=3):
    return network(per_sample_normal(0, "test/images", range(batch), (3, 8, 8)), torch.linspace(0, 999, batch))


def test_by_default_nothing_is_changed():
    assert Execution().model_dump() == {"attention": "auto", "gradient_checkpointing": False, "channels_last": False, "compile": False}
    network = filled(SPECS["adm-unet"])
    expected = call(network)
    assert Execution().prepare(network) is network
    assert torch.equal(call(network), expected)


@every_network
@pytest.mark.parametrize("kernel", ["auto", "sdpa", "math"])
def test_every_attention_layer_gets_the_kernel(spec, kernel):
    network = filled(spec)
    expected = call(network)
    Execution(attention=kernel).prepare(network)
    kernels = [module.kernel for module in network.modules() if isinstance(module, Attention)]
    assert set(kernels) == {kernel}
    # Attention is nowhere but in such layers: one in each of two blocks of the DiT; two in, one in the middle and four out in the UNet.
    assert len(kernels) == {"dit": 2, "adm-unet": 7}[spec.type_name]
    assert torch.allclose(call(network), expected, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
@every_network
def test_xformers_on_a_machine_without_cuda_says_so_at_the_first_call(spec):
    network = Execution(attention="xformers").prepare(filled(spec))
    with pytest.raises(RuntimeError, match=r"^attention: .*; use sdpa or auto$"):
        call(network)


@every_network
def test_every_option_at_once_keeps_the_keys_and_the_output(spec):
    network = filled(spec)
    keys, expected = list(network.state_dict()), call(network)
    Execution(attention="math", gradient_checkpointing=True, channels_last=True).prepare(network)
    assert all(module.gradient_checkpointing for module in network.modules() if isinstance(module, Network))
    assert list(network.state_dict()) == keys
    assert torch.allclose(call(network), expected, atol=1e-5)


@every_network
def test_weights_of_convolutions_are_put_channels_last_and_back(spec):
    network = filled(spec)
    weights = [parameter for parameter in network.parameters() if parameter.ndim == 4 and min(parameter.shape[1:]) > 1]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    Execution(channels_last=True).prepare(network)
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    Execution(channels_last=False).prepare(network)
    assert all(weight.is_contiguous() for weight in weights)


def test_activations_of_a_unet_are_channels_last_from_the_first_convolution_on():
    network = Execution(channels_last=True).prepare(filled(SPECS["adm-unet"]))
    found = []
    for stage in [*network.input_blocks, network.middle_block, *network.output_blocks]:
        stage.register_forward_hook(lambda module, inputs, out: found.append(out.is_contiguous(memory_format=torch.channels_last)))
    call(network)
    assert found
    assert all(found)


@pytest.mark.slow
def test_a_compiled_network_has_its_keys_output_and_gradients():
    # The smallest network, because the compiler takes minutes over a UNet.
    network = filled(MLP(image_size=8, in_channels=3, out_channels=3, width=8, depth=1, time_embed_dim=4))
    keys, expected = list(network.state_dict()), call(network)
    expected.square().mean().backward()
    compiled = Execution(compile=True).prepare(copy.deepcopy(network))
    compiled.zero_grad()
    assert list(compiled.state_dict()) == keys
    out = call(compiled)
    assert torch.allclose(out, expected, atol=1e-5)
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        found = compiled.get_parameter(name).grad
        assert torch.allclose(found, parameter.grad, atol=1e-4 * parameter.grad.abs().max().item() + 1e-7), name


def test_the_compiler_may_not_choose_the_layout_on_a_cpu():
    network = SPECS["dit"].build()
    assert compiler_options(network) == {"layout_optimization": False}
    assert compiler_options(network.to("meta")) is None
    assert set(compiler_options(SPECS["dit"].build())) <= set(torch._inductor.list_options())


def test_a_compiled_network_can_be_copied_as_averages_of_weights_are():
    network = Execution(compile=True).prepare(filled(SPECS["dit"]))
    twin = copy.deepcopy(network)
    assert list(twin.state_dict()) == list(network.state_dict())
    assert torch.allclose(call(twin), call(filled(SPECS["dit"])), atol=1e-5)


def test_layers_that_are_not_networks_can_be_prepared():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert Execution(channels_last=True).prepare(layer)[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("field", "value"), [("attention", "flash"), ("compile", "perhaps"), ("checkpointing", True)])
def test_a_wrong_field_is_refused(field, value):
    with pytest.raises(ValidationError):
        Execution(**{field: value})
