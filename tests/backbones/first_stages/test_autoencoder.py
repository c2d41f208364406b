import warnings

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from etsdm.backbones.first_stages import FirstStage, KLNetwork, VQAutoencoder, VQNetwork
from etsdm.backbones.first_stages.coders import PaddedDownsample, PixelAttention, ResidualBlock
from etsdm.errors import RegistryError
from etsdm.randomness import per_sample_normal, seeded_global_rng
from etsdm.registry import first_stages, format_errors

SMALL = {
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 8,
    "ch_mult": (1, 2, 3),
    "num_res_blocks": 1,
    "attn_resolutions": (8,),
    "z_channels": 4,
    "embed_dim": 5,
    "norm_groups": 4,
}
KINDS = {"vq": {"n_embed": 20}, "kl": {}}
every_kind = pytest.mark.parametrize("kind", KINDS)


def spec(kind="vq", **changes):
    return first_stages.create(kind, **{**SMALL, **KINDS[kind], **changes})


def network(kind="vq", **changes):
    with seeded_global_rng(0, "test/weights"):
        return spec(kind, **changes).build().eval()


def images(batch, height=16, width=16, channels=3):
    return per_sample_normal(0, "test/images", range(batch), (channels, height, width)).clamp(-1, 1)


def refused(**changes):
    """The field that is refused, and the sentence."""
    with pytest.raises(ValidationError) as error:
        VQAutoencoder(**{**SMALL, **KINDS["vq"], **changes})
    (problem,) = format_errors(error.value)
    return problem.field, problem.message


@every_kind
def test_the_part_is_registered_and_comes_back_from_its_dump_with_its_scale(kind):
    part = spec(kind, scale_factor=0.5)
    dumped = part.model_dump(mode="json")
    assert (dumped["type"], dumped["scale_factor"]) == (kind, 0.5)
    assert first_stages.parse(dumped) == part
    assert isinstance(part, FirstStage)
    assert isinstance(part.build(), {"vq": VQNetwork, "kl": KLNetwork}[kind])


def test_sizes_follow_from_the_levels():
    part = spec()
    assert (part.widths, part.sizes, part.factor) == ((8, 16, 24), (16, 8, 4), 4)
    assert (part.image_shape, part.latent_shape) == ((3, 16, 16), (5, 4, 4))
    assert spec(embed_dim=None).latent_shape == (4, 4, 4)


def test_doubled_channels_belong_to_the_kind():
    assert refused(double_z=True) == ("double_z", "found True; give False")
    with pytest.raises(RegistryError, match=r"first stage 'kl': double_z: found False; give True"):
        spec("kl", double_z=False)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"ch": 10}, "ch", "10 is not a multiple of norm_groups 4; change one of the two"),
        ({"resolution": 18}, "resolution", "18 is not a multiple of 4; give one, or fewer entries of ch_mult"),
        ({"ch_mult": ()}, "ch_mult", "found (); give 1 or more entries"),
        ({"n_embed": 0}, "n_embed", "found 0; give a value above 0"),
        ({"scale_factor": 0.0}, "scale_factor", "found 0.0; give a value above 0"),
        ({"dropout": 1.0}, "dropout", "found 1.0; give a value below 1"),
        ({"attn_type": "linear"}, "attn_type", "found 'linear'; give 'vanilla' or 'none'"),
        ({"num_resblocks": 2}, "num_resblocks", "unknown field; did you mean 'num_res_blocks'?"),
    ],
)
def test_a_field_out_of_bounds_is_refused(changes, field, message):
    found, sentence = refused(**changes)
    assert (found, sentence[: len(message)]) == (field, message)


def test_attention_at_sizes_of_no_level_draws_a_warning():
    with pytest.warns(UserWarning, match=r"^attn_resolutions: .* \[32\]; the sizes are \[4, 8, 16\]$"):
        spec(attn_resolutions=(8, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec(attn_resolutions=(16, 4))


def test_published_first_stages_are_presets_with_published_scales():
    # Stable Diffusion 1 and retrieval-augmented diffusion publish their factors; vq stages are used as they are.
    scales = {name: first_stages.create(name).scale_factor for name in first_stages.names() if first_stages.defaults(name)}
    assert {name: scale for name, scale in scales.items() if scale != 1} == {"kl-f8-sd": 0.18215, "kl-f16-rdm": 0.22765929}
    shapes = {name: first_stages.create(name).latent_shape for name in scales}
    assert shapes == {
        "vq-f4": (3, 64, 64),
        "vq-f4-noattn": (3, 64, 64),
        "vq-f8": (4, 32, 32),
        "vq-f8-n256": (4, 32, 32),
        "vq-f16": (8, 16, 16),
        "kl-f4": (3, 64, 64),
        "kl-f8": (4, 32, 32),
        "kl-f8-sd": (4, 32, 32),
        "kl-f16": (16, 16, 16),
        "kl-f16-rdm": (16, 16, 16),
        "kl-f32": (64, 8, 8),
    }


@every_kind
def test_the_scale_factor_multiplies_what_is_encoded_and_divides_what_is_decoded(kind):
    plain, scaled = network(kind), network(kind, scale_factor=0.25)
    x = images(2)
    assert torch.equal(scaled.encode(x), 0.25 * plain.encode(x))
    assert torch.equal(scaled.decode(scaled.encode(x)), plain.decode(plain.encode(x)))


@every_kind
@pytest.mark.parametrize("options", [{}, {"resamp_with_conv": False}, {"attn_type": "none"}, {"ch_mult": (2,), "attn_resolutions": (16,)}])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 16, 16), (3, 8, 20)])
def test_odd_batches_and_other_sizes_are_taken(kind, options, batch, height, width):
    built = network(kind, **options)
    factor = built.spec.factor
    z = built.encode(images(batch, height, width))
    assert z.shape == (batch, 5, height // factor, width // factor)
    out = built.decode(z)
    assert out.shape == (batch, 3, height, width)
    assert torch.allclose(out[:1], built.decode(z[:1]), atol=1e-5)


def test_images_may_come_out_with_other_channels():
    built = network(in_channels=1, out_ch=2)
    assert built.decode(built.encode(images(1, channels=1))).shape == (1, 2, 16, 16)


@every_kind
@pytest.mark.parametrize("chunk", [1, 2, 3, 10])
def test_decoding_in_chunks_gives_the_same_images(kind, chunk):
    built = network(kind)
    z = built.encode(images(3))
    assert torch.allclose(built.decode(z, chunk=chunk), built.decode(z), atol=1e-5)


@every_kind
def test_wrong_shapes_and_chunks_are_refused(kind):
    built = network(kind)
    for shape in [(2, 4, 16, 16), (3, 16, 16)]:
        with pytest.raises(ValueError, match=r"^x .* \(.*\); give \(batch, 3, height, width\)$"):
            built.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"^x .* 16 .* 18; give multiples of 4$"):
        built.encode(torch.zeros(2, 3, 16, 18))
    with pytest.raises(ValueError, match=r"^z .* \(2, 4, 4, 4\); give \(batch, 5, height, width\)$"):
        built.decode(torch.zeros(2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"^chunk: 0 .*; give 1 or more$"):
        built.decode(torch.zeros(2, 5, 4, 4), chunk=0)


def test_a_tanh_keeps_images_in_range():
    plain, bounded = network("kl"), network("kl", tanh_out=True)
    z = 5 * per_sample_normal(0, "test/latents", range(2), (5, 4, 4))
    assert torch.equal(bounded.decode(z), plain.decode(z).tanh())


def test_dropout_acts_in_training_alone():
    built = network("kl", dropout=0.5)
    x, without = images(2), network("kl").encode(images(2))
    assert torch.equal(built.encode(x), without)
    assert not torch.equal(built.train().encode(x), without)


@every_kind
def test_every_parameter_gets_a_gradient(kind):
    built = network(kind).train()
    # A codebook learns by its loss, not by the images.
    built.decode(built.encode(images(3))).square().mean().backward()
    without = {name for name, parameter in built.named_parameters() if parameter.grad is None}
    assert without == ({"quantize.embedding.weight"} if kind == "vq" else set())
    # A shift of all keys by one vector changes no softmax.
    moved = [name for name, parameter in built.named_parameters() if name not in without and not name.endswith(".k.bias")]
    assert all(built.get_parameter(name).grad.count_nonzero() > 0 for name in moved)


@every_kind
def test_bfloat16_is_near_float32(kind):
    built, x = network(kind), images(2)
    exact = built.encode(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (built.encode(x) - exact).norm() < 0.03 * exact.norm()
    z = built.bfloat16().encode(x.bfloat16())
    assert z.dtype == torch.bfloat16
    assert (z.float() - exact).norm() < 0.03 * exact.norm()
    assert built.decode(z).dtype == torch.bfloat16


@every_kind
def test_channels_last_gives_the_same_output(kind):
    built, x = network(kind), images(2)
    z = built.encode(x)
    expected = built.decode(z)
    built = built.to(memory_format=torch.channels_last)
    assert torch.allclose(built.encode(x.to(memory_format=torch.channels_last)), z, atol=1e-5)
    assert torch.allclose(built.decode(z.to(memory_format=torch.channels_last)), expected, atol=1e-5)


@every_kind
def test_both_ways_run_on_the_meta_device(kind):
    with torch.device("meta"):
        built = spec(kind).build()
        assert built.decode(built.encode(torch.zeros(2, 3, 16, 16))).shape == (2, 3, 16, 16)


@every_kind
def test_both_ways_are_one_graph(kind):
    built, x = network(kind), images(2)
    z = built.encode(x)
    assert torch.equal(torch.compile(built.encode, fullgraph=True, backend="eager")(x), z)
    assert torch.equal(torch.compile(built.decode, fullgraph=True, backend="eager")(z), built.decode(z))


def test_halving_pads_below_and_to_the_right():
    downsample = PaddedDownsample(1)
    with torch.no_grad():
        downsample.conv.weight.fill_(1.0)
        downsample.conv.bias.zero_()
    # Sums of the 3x3 windows that start at even rows and columns; beyond the edge is zero.
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert downsample(x).flatten().tolist() == [45.0, 39.0, 66.0, 50.0]


def test_a_residual_block_is_two_convolutions_around_a_skip():
    with seeded_global_rng(0, "test/weights"):
        block = ResidualBlock(spec(), 8, 12)
    x = 1e-3 * images(2, channels=8)
    h = block.conv1(F.silu(F.group_norm(x, 4, block.norm1.weight, block.norm1.bias, 1e-6)))
    h = block.conv2(F.silu(F.group_norm(h, 4, block.norm2.weight, block.norm2.bias, 1e-6)))
    assert torch.allclose(block(x), block.nin_shortcut(x) + h, atol=1e-5)
    assert "nin_shortcut.weight" not in ResidualBlock(spec(), 8, 8).state_dict()


def test_attention_is_the_formula_in_one_head():
    with seeded_global_rng(0, "test/weights"):
        layer = PixelAttention(spec(), 8)
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
    x = images(2, 4, 6, channels=8)
    normed = F.group_norm(x, 4, layer.norm.weight, layer.norm.bias, 1e-6)
    q, k, v = (F.conv2d(normed, part.weight, part.bias).flatten(2) for part in (layer.q, layer.k, layer.v))
    weights = torch.softmax(q.mT @ k * 8**-0.5, dim=-1)
    h = F.conv2d((v @ weights.mT).unflatten(2, (4, 6)), layer.proj_out.weight, layer.proj_out.bias)
    assert torch.allclose(layer(x), x + h, atol=1e-5)
