"""What holds for every registered backbone, whatever it is made of. A new kind needs an entry in `SPECS`."""

import pytest
import torch
from recorded import weight
from torch.utils._python_dispatch import TorchDispatchMode

from etsdm.backbones import MLP, ADMUNet, DhariwalUNet, DiT, LDMUNet, SongUNet
from etsdm.randomness import per_sample_normal, seeded_global_rng
from etsdm.registry import backbones

COMMON = {"image_size": 8, "in_channels": 3, "out_channels": 5, "num_classes": 4, "dropout": 0.3}
UNET = {**COMMON, "channel_mult": (1, 2)}
ADM = {**UNET, "model_channels": 16, "norm_groups": 8, "num_res_blocks": 1, "attention_resolutions": (2,), "num_head_channels": 8}
KARRAS = {**UNET, "model_channels": 32, "num_blocks": 1, "attn_resolutions": (4,)}

# The smallest of each kind that has all of its layers: attention, labels, dropout, a change of size.
SPECS = {
    "adm-unet": ADMUNet(**ADM),
    "adm-unet as published": ADMUNet(**ADM, use_scale_shift_norm=True, resblock_updown=True, use_new_attention_order=True),
    "ldm-unet": LDMUNet(**ADM),
    "ldm-unet with transformers": LDMUNet(**ADM, use_spatial_transformer=True, context_dim=6),
    "song-unet": SongUNet(**KARRAS),
    "song-unet as ncsn++": SongUNet(**KARRAS, embedding_type="fourier", encoder_type="residual", resample_filter=(1, 3, 3, 1)),
    "dhariwal-unet": DhariwalUNet(**KARRAS),
    "dit": DiT(**COMMON, patch_size=2, hidden_size=16, depth=3, num_heads=2, drop_path=0.4),
    "mlp": MLP(**COMMON, width=16, depth=2, time_embed_dim=8),
}
FIXED_SIZE = {"dit", "mlp"}  # their weights belong to one size of image

every_backbone = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
every_size = pytest.mark.parametrize(
    ("spec", "size"),
    [
        pytest.param(spec, size, id=f"{name} at {size[0]}x{size[1]}")
        for name, spec in SPECS.items()
        for size in [(8, 8)] + ([] if spec.type_name in FIXED_SIZE else [(6, 6), (4, 10)])
    ],
)


def network(spec):
    """The network in evaluation mode, all weights drawn by a rule, so that no layer is zero."""
    built = spec.build().eval()
    with torch.no_grad():
        for key, parameter in built.named_parameters():
            parameter.copy_(weight(key, parameter.shape))
    return built


def inputs(spec, batch, size=(8, 8)):
    """Images, times, and what the network takes besides."""
    cond = {}
    if spec.num_classes is not None:
        cond["y"] = torch.arange(batch) % spec.num_classes
    if getattr(spec, "context_dim", None) is not None:
        cond["context"] = per_sample_normal(0, "test/context", range(batch), (2, spec.context_dim))
    return per_sample_normal(0, "test/images", range(batch), (spec.in_channels, *size)), torch.tensor([0.3, 0.7, 0.9])[:batch], cond


def assert_gradients(built, x):
    for name, tensor in [("x", x), *built.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.count_nonzero() > 0, name


def test_every_kind_has_an_entry_here():
    assert {spec.type_name for spec in SPECS.values()} == set(backbones.classes())


@every_size
@pytest.mark.parametrize("batch", [1, 3])
def test_the_output_has_the_images_size_and_every_parameter_a_gradient(spec, size, batch):
    built = network(spec)
    x, time, cond = inputs(spec, batch, size)
    out = built(x.requires_grad_(), time, **cond)
    assert (out.shape, out.dtype) == ((batch, 5, *size), torch.float32)
    assert out.isfinite().all()
    out.square().mean().backward()
    assert_gradients(built, x)


@every_backbone
def test_images_do_not_see_each_other(spec):
    built = network(spec)
    x, time, cond = inputs(spec, 3)
    together = built(x, time, **cond)
    for k in range(3):
        alone = built(x[k : k + 1], time[k : k + 1], **{key: value[k : k + 1] for key, value in cond.items()})
        assert torch.allclose(alone[0], together[k], atol=1e-5 * together.abs().max().item())
    assert not torch.allclose(together[0], together[1], rtol=0.1)


@every_size
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "weights"])
def test_in_bfloat16_the_output_is_near_that_of_float32_and_every_parameter_has_a_gradient(spec, size, batch, autocast):
    built = network(spec)
    x, time, cond = inputs(spec, batch, size)
    exact = built(x, time, **cond).detach()
    if not autocast:
        built, x = built.bfloat16(), x.bfloat16()
        cond = {key: value.bfloat16() if value.is_floating_point() else value for key, value in cond.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = built(x.requires_grad_(), time, **cond)
    assert out.dtype == x.dtype
    # bfloat16 has 8 bits: a rounding is off by up to 2^-9 of a value, and they add up over a dozen layers.
    assert (out.float() - exact).norm() < 0.02 * exact.norm()
    out.float().square().mean().backward()
    assert_gradients(built, x)


@every_backbone
def test_in_float64_the_output_is_that_of_float32_with_more_digits(spec):
    built = network(spec)
    x, time, cond = inputs(spec, 3)
    found = built(x, time, **cond)
    exact = built.double()(x.double(), time, **{key: value.double() if value.is_floating_point() else value for key, value in cond.items()})
    assert exact.dtype == torch.float64
    # float32 rounds by 6e-8 of a value, and over a dozen layers the roundings add up; the sinusoids of time stay float32.
    assert torch.allclose(found.double(), exact, rtol=0, atol=1e-4 * exact.abs().max().item())
    assert not torch.equal(found.double(), exact)


class NothingRuns(TorchDispatchMode):
    """Under it no tensor can be made and nothing be computed."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} was called")


def refusal(spec, x, time, **cond):
    """What a call is refused with; it must be so before a tensor is made."""
    built = spec.build()
    with pytest.raises(ValueError, match=r"\A[^\n]+; (give|leave out) [^\n]+\Z") as error, NothingRuns():
        built(x, time, **cond)
    return str(error.value)


@every_backbone
def test_a_right_call_makes_tensors(spec):
    built = spec.build()
    x, time, cond = inputs(spec, 2)
    with pytest.raises(AssertionError, match=r"was called"), NothingRuns():
        built(x, time, **cond)


@every_backbone
def test_wrong_images_are_refused_before_anything_is_allocated(spec):
    x, time, cond = inputs(spec, 2)
    for wrong in (x[:, :1], x.repeat(1, 2, 1, 1), x[0]):
        assert refusal(spec, wrong, time, **cond) == f"x has shape {tuple(wrong.shape)}; give (batch, 3, height, width)"
    assert refusal(spec, x, time[:1], **cond) == "time has shape (1,); give one value an image, (2,)"


@every_backbone
def test_wrong_sizes_are_refused_before_anything_is_allocated(spec):
    _, time, cond = inputs(spec, 2)
    for height, width in [(8, 7), (5, 8)] if spec.divisor > 1 else []:
        message = refusal(spec, torch.zeros(2, 3, height, width), time, **cond)
        assert message == f"x has height {height} and width {width}; give multiples of {spec.divisor}"
    for height, width in [(8, 16), (4, 4)] if spec.type_name in FIXED_SIZE else []:
        message = refusal(spec, torch.zeros(2, 3, height, width), time, **cond)
        assert message == f"x has height {height} and width {width}; give 8 by 8, the image_size"


@every_backbone
def test_labels_missing_or_not_expected_are_refused_before_anything_is_allocated(spec):
    x, time, cond = inputs(spec, 2)
    labels = cond.pop("y")
    assert refusal(spec, x, time, **cond) == "labels are missing; give y, one of 4 classes an image"
    assert refusal(spec, x, time, y=labels[:1], **cond) == "y has shape (1,); give one label an image, (2,)"
    without = spec.model_copy(update={"num_classes": None})
    message = "labels were given to a network without classes; leave out y or set num_classes"
    assert refusal(without, x, time, y=labels, **cond) == message
    assert network(without)(x, time, **cond).isfinite().all()


@every_backbone
def test_what_dropout_leaves_out_is_a_function_of_the_ambient_stream(spec):
    built = network(spec).train()
    x, time, cond = inputs(spec, 3)
    weights = list(built.parameters())

    def results(index):
        torch.rand(index + 1)  # what was drawn before does not matter
        with seeded_global_rng(0, "test/dropout", index):
            out = built(x, time, **cond)
            return [out.detach(), *torch.autograd.grad(out.square().mean(), weights)]

    first, again, other = results(0), results(0), results(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.allclose(first[0], other[0], rtol=0.1)


@every_backbone
def test_evaluation_draws_nothing(spec):
    built = network(spec)
    x, time, cond = inputs(spec, 3)
    before = torch.get_rng_state()
    assert torch.equal(built(x, time, **cond), built(x, time, **cond))
    assert torch.equal(torch.get_rng_state(), before)


PRESETS = {backbones.create(name): name for name in sorted(set(backbones.names()) - set(backbones.classes()))}


@pytest.mark.parametrize("spec", PRESETS, ids=PRESETS.values())
def test_every_preset_builds_without_memory_and_can_be_summed_up(spec):
    summary = spec.summary()
    # At least a multiplication and an addition a weight, but for tables of labels, norms and biases.
    assert summary.flops > summary.parameters
    assert summary.weights >= 4 * summary.parameters
    assert summary.activations > 0
