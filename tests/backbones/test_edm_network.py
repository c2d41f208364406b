"""How the networks of `song-unet` and `dhariwal-unet` behave."""

import pytest
import torch
from torch import nn

from etsdm.backbones.dhariwal import DhariwalUNet
from etsdm.backbones.execution import Execution
from etsdm.backbones.kernels import Attention
from etsdm.backbones.song import SongUNet
from etsdm.randomness import per_sample_normal, seeded_global_rng
from etsdm.registry import backbones

SMALL = {"image_size": 8, "in_channels": 1, "out_channels": 1, "channel_mult": (1, 2), "num_blocks": 1, "dropout": 0.0}
CONDITIONS = {"num_classes": 10, "augment_dim": 3}
SPECS = {
    "ddpm++": SongUNet(**SMALL, model_channels=8, attn_resolutions=(4,)),
    "ncsn++": SongUNet(
        **SMALL,
        **CONDITIONS,
        model_channels=8,
        attn_resolutions=(8,),
        embedding_type="fourier",
        channel_mult_noise=2,
        encoder_type="residual",
        resample_filter=(1, 3, 3, 1),
    ),
    "skip": SongUNet(**SMALL, model_channels=8, attn_resolutions=(), encoder_type="skip", decoder_type="skip"),
    "adm": DhariwalUNet(**SMALL, **CONDITIONS, model_channels=32, attn_resolutions=(4,)),
}
every_kind = pytest.mark.parametrize("kind", SPECS)


def network(kind, **changes):
    """A network in evaluation mode whose residual branches are not empty."""
    with seeded_global_rng(0, "test/weights"):
        built = backbones.parse({**SPECS[kind].model_dump(), **changes}).build().eval()
        for parameter in built.parameters():
            if parameter.ndim > 1 and parameter.abs().max() < 1e-3:
                nn.init.normal_(parameter, std=0.3 * parameter[0].numel() ** -0.5)
    return built


def images(batch, height=8, width=8):
    return per_sample_normal(0, "test/images", range(batch), (1, height, width))


def times(batch):
    return torch.linspace(-1.5, 1.5, batch)


def conditions(kind, batch):
    if SPECS[kind].num_classes is None:
        return {}
    return {"y": torch.arange(batch) % 10, "augment": per_sample_normal(0, "test/augment", range(batch), (3,))}


@every_kind
@pytest.mark.parametrize(
    ("x", "time", "message"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), r"^x has shape \(2, 3, 8, 8\); give \(batch, 1, height, width\)$"),
        (torch.zeros(2, 1, 7, 8), torch.zeros(2), r"^x has height 7 and width 8; give multiples of 2$"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1), r"^time has shape \(2, 1\); give one value an image, \(2,\)$"),
    ],
)
def test_images_and_times_of_another_shape_are_refused(kind, x, time, message):
    with pytest.raises(ValueError, match=message):
        network(kind)(x, time, **conditions(kind, 2))


def test_missing_unexpected_and_misshapen_conditions_are_refused():
    with pytest.raises(ValueError, match=r"^labels .*; give y, one of 10 classes an image$"):
        network("adm")(images(2), times(2))
    with pytest.raises(ValueError, match=r"^labels were given to a network without classes"):
        network("skip")(images(2), times(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^augment .* \(2, 4\); give \(2, 3\)$"):
        network("ncsn++")(images(2), times(2), torch.tensor([0, 1]), torch.zeros(2, 4))
    message = r"^augment was given to a network without .*; leave it out or set augment_dim$"
    with pytest.raises(ValueError, match=message):
        network("skip")(images(2), times(2), augment=torch.zeros(2, 3))


@every_kind
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (12, 20)])
def test_odd_batches_and_other_sizes_are_taken(kind, batch, height, width):
    built, x, cond = network(kind), images(batch, height, width), conditions(kind, batch)
    out = built(x, times(batch), **cond)
    assert out.shape == x.shape
    alone = built(x[:1], times(batch)[:1], **{name: value[:1] for name, value in cond.items()})
    assert torch.allclose(out[:1], alone, atol=1e-5)


@every_kind
def test_channels_in_and_out_may_differ(kind):
    built = network(kind, in_channels=2, out_channels=5)
    assert built(images(2).expand(-1, 2, -1, -1), times(2), **conditions(kind, 2)).shape == (2, 5, 8, 8)


@every_kind
def test_images_and_noise_levels_are_told_apart(kind):
    built, cond = network(kind), conditions(kind, 2)
    x = images(2)
    out = built(x, torch.tensor([0.5, 0.5]), **cond)
    other = built(x, torch.tensor([0.5, 0.51]), **cond)
    assert torch.allclose(out[0], other[0], atol=1e-6)
    assert not torch.allclose(out[1], other[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["ncsn++", "adm"])
def test_labels_and_augmentation_change_the_output(kind):
    built, x, t = network(kind), images(1), times(1)
    y, augment = torch.tensor([3]), torch.tensor([[1.0, 0.0, -1.0]])
    plain = built(x, t, y)
    assert torch.allclose(built(x, t, y, torch.zeros(1, 3)), plain, atol=1e-6)
    assert not torch.allclose(built(x, t, y, augment), plain, atol=1e-4)
    assert not torch.allclose(built(x, t, torch.tensor([4])), plain, atol=1e-4)


@pytest.mark.parametrize("kind", ["ncsn++", "adm"])
def test_training_drops_no_label_and_one_that_is_none_is_refused(kind):
    built, x, t = network(kind), images(1).expand(20, -1, -1, -1), times(1).expand(20)
    with torch.no_grad():
        expected = built(x, t, torch.full((20,), 9))
        assert torch.equal(built.train()(x, t, torch.full((20,), 9)), expected)
    with pytest.raises(ValueError, match=r"^y has the label 10; give labels from 0 to 9"):
        built(x, t, torch.full((20,), 10))


@every_kind
@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_gets_a_gradient_in_float32_and_under_bfloat16_autocast(kind, autocast):
    built, x = network(kind).train(), images(3).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = built(x, times(3), **conditions(kind, 3))
    assert out.dtype == torch.float32
    out.square().mean().backward()
    for name, parameter in [("x", x), *built.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


@every_kind
def test_bfloat16_is_near_float32(kind):
    built, x, t, cond = network(kind), images(4), times(4), conditions(kind, 4)
    exact = built(x, t, **cond)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (built(x, t, **cond) - exact).norm() < 0.03 * exact.norm()
    out = built.bfloat16()(x.bfloat16(), t, **cond)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).norm() < 0.03 * exact.norm()
    out.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in built.parameters())


@every_kind
def test_float64_weights_compute_in_float64(kind):
    built, x, t, cond = network(kind), images(2), times(2), conditions(kind, 2)
    out = built(x, t, **cond)
    exact = built.double()(x.double(), t.double(), **cond)
    assert exact.dtype == torch.float64
    assert torch.allclose(out.double(), exact, atol=1e-5)
    assert not torch.equal(out, exact.float())


@every_kind
def test_channels_last_and_each_kernel_give_the_same_output(kind):
    built, x, t, cond = network(kind), images(2), times(2), conditions(kind, 2)
    expected = built(x, t, **cond)
    assert any(isinstance(module, Attention) for module in built.modules())
    for execution in (Execution(attention="math"), Execution(attention="sdpa", channels_last=True)):
        assert torch.allclose(execution.prepare(built)(x, t, **cond), expected, atol=1e-5)


@every_kind
def test_gradient_checkpointing_changes_no_gradient_even_with_dropout(kind):
    gradients = []
    for checkpointing in (False, True):
        built = Execution(gradient_checkpointing=checkpointing).prepare(network(kind, dropout=0.3).train())
        with seeded_global_rng(0, "test/dropout"):
            built(images(2), times(2), **conditions(kind, 2)).square().mean().backward()
        gradients.append([parameter.grad for parameter in built.parameters() if parameter.grad is not None])
    assert all(torch.allclose(*pair, atol=1e-7) for pair in zip(*gradients, strict=True))


@every_kind
def test_dropout_comes_from_the_ambient_stream_and_only_in_training(kind):
    built, x, t, cond = network(kind, dropout=0.3), images(2), times(2), conditions(kind, 2)
    assert torch.equal(built(x, t, **cond), built(x, t, **cond))
    outs = []
    for seed in (0, 0, 1):
        with seeded_global_rng(seed, "test/dropout"):
            outs.append(built.train()(x, t, **cond))
    assert torch.equal(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2], atol=1e-4)


@pytest.mark.parametrize(("kind", "training"), [("skip", False), ("ncsn++", True), ("adm", True)])
def test_the_network_is_one_graph(kind, training):
    # Capture is what can fail; the backend that runs the graph as it is needs no C++ compiler.
    built = network(kind).train(training)
    x, t, cond = images(2), times(2), conditions(kind, 2)
    with seeded_global_rng(0, "test/dropout"):
        compiled = torch.compile(built, fullgraph=True, backend="eager")(x, t, **cond)
    with seeded_global_rng(0, "test/dropout"):
        assert torch.allclose(compiled, built(x, t, **cond), atol=1e-6)


@every_kind
def test_weights_come_from_the_ambient_stream(kind):
    first, second = network(kind).state_dict(), network(kind).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("preset", ["edm-cifar10-cond", "ncsnpp-ffhq64", "edm-imagenet64"])
def test_a_preset_runs_on_the_meta_device(preset):
    part = backbones.create(preset)
    with torch.device("meta"):
        built = part.build()
        x = torch.empty(3, 3, part.image_size, part.image_size)
        y = torch.empty(3, dtype=torch.int64) if part.num_classes else None
        assert built(x, torch.empty(3), y).shape == x.shape
