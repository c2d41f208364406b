import pytest
import torch
from small_adm import EVERY_OPTION, SMALL
from torch import nn

from etsdm.backbones import ADMUNet
from etsdm.randomness import per_sample_normal, seeded_global_rng


def network(fill=True, **changes):
    """A network in evaluation mode, with its zero-initialised layers filled unless told otherwise."""
    with seeded_global_rng(0, "test/weights"):
        built = ADMUNet(**{**SMALL, **changes}).build().eval()
        for parameter in built.parameters():
            if fill and parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.1)
    return built


def images(batch, size=8, channels=1):
    return per_sample_normal(0, "test/images", range(batch), (channels, size, size))


def times(batch):
    return torch.linspace(0, 999, batch)


def test_the_embedding_has_four_times_the_model_channels_unless_told():
    assert network().time_embed[2].out_features == 64
    assert network(time_embed_dim=40).time_embed[2].out_features == 40


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 8, 8), (2, 1, 8, 8, 8)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"^x .* \(2, .*\); give \(batch, 1, height, width\)$"):
        network()(torch.zeros(shape), times(2))


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 9)])
def test_sizes_that_cannot_be_halved_are_refused(height, width):
    with pytest.raises(ValueError, match=rf"^x .* {height} .* {width}; give multiples of 2$"):
        network()(torch.zeros(2, 1, height, width), times(2))


@pytest.mark.parametrize("shape", [(), (1,), (2, 1)])
def test_times_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"^time .* \(.*\); give one value an image, \(2,\)$"):
        network()(images(2), torch.zeros(shape))


def test_missing_unexpected_and_misshapen_labels_are_refused():
    with pytest.raises(ValueError, match=r"^labels .*; give y, one of 10 classes an image$"):
        network(num_classes=10)(images(2), times(2))
    with pytest.raises(ValueError, match=r"^labels .*; leave out y or set num_classes$"):
        network()(images(2), times(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^y .* \(1,\); give one label an image, \(2,\)$"):
        network(num_classes=10)(images(2), times(2), torch.tensor([0]))


@pytest.mark.parametrize("options", [{}, EVERY_OPTION])
def test_a_fresh_network_gives_exactly_zero(options):
    y = torch.tensor([0, 9]) if options else None
    assert network(fill=False, **options)(images(2), times(2), y).count_nonzero() == 0


def test_weights_come_from_the_ambient_stream():
    first, second = network(fill=False).state_dict(), network(fill=False).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 8), (12, 20)])
def test_odd_batches_and_other_sizes_are_taken(batch, height, width):
    built = network(channel_mult=(1, 2, 2))
    x = torch.randn(batch, 1, height, width, generator=torch.Generator().manual_seed(0))
    out = built(x, times(batch))
    assert out.shape == x.shape
    assert torch.allclose(out[:1], built(x[:1], times(batch)[:1]), atol=1e-5)


@pytest.mark.parametrize("image_size", [8, 16, 32])
@pytest.mark.parametrize("conv_resample", [True, False])
@pytest.mark.parametrize("resblock_updown", [True, False])
def test_every_size_and_way_of_resampling_keeps_the_size(image_size, conv_resample, resblock_updown):
    built = network(
        image_size=image_size,
        in_channels=3,
        out_channels=6,
        channel_mult=(1, 1, 2),
        conv_resample=conv_resample,
        resblock_updown=resblock_updown,
    )
    out = built(images(2, image_size, 3), times(2))
    assert out.shape == (2, 6, image_size, image_size)
    assert out.isfinite().all()


def test_labels_change_the_output():
    built = network(num_classes=10)
    x, t = images(2), times(2)
    first, second = built(x, t, torch.tensor([3, 4])), built(x, t, torch.tensor([3, 5]))
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-4)


def test_times_between_integers_are_told_apart():
    built = network()
    out = built(images(1).expand(3, -1, -1, -1), torch.tensor([10.0, 10.5, 11.0]))
    assert not torch.allclose(out[0], out[1], atol=1e-5)
    assert not torch.allclose(out[1], out[2], atol=1e-5)


def test_integer_and_float64_times_give_what_float32_times_give():
    built, x = network(), images(2)
    expected = built(x, torch.tensor([3.0, 700.0]))
    assert torch.equal(built(x, torch.tensor([3, 700])), expected)
    assert torch.equal(built(x, torch.tensor([3.0, 700.0], dtype=torch.float64)), expected)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("options", [{}, EVERY_OPTION])
def test_every_parameter_gets_a_gradient_in_float32_and_under_bfloat16_autocast(options, autocast):
    built = network(**options).train()
    x = images(3).requires_grad_()
    y = torch.tensor([0, 4, 9]) if options else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = built(x, times(3), y)
    assert out.dtype == torch.float32
    out.square().mean().backward()
    for name, parameter in [("x", x), *built.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("options", [{}, EVERY_OPTION])
def test_bfloat16_is_near_float32(options):
    built, x, t = network(**options), images(4), times(4)
    y = torch.tensor([0, 4, 9, 1]) if options else None
    exact = built(x, t, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (built(x, t, y) - exact).norm() < 0.02 * exact.norm()
    out = built.bfloat16()(x.bfloat16(), t, y)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).norm() < 0.02 * exact.norm()
    out.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in built.parameters())


def test_float64_weights_compute_in_float64():
    built, x, t = network(), images(2), times(2)
    out = built(x, t)
    exact = built.double()(x.double(), t)
    assert exact.dtype == torch.float64
    assert torch.allclose(out.double(), exact, atol=1e-5)
    assert not torch.equal(out, exact.float())


def test_channels_last_gives_the_same_output():
    built, x, t = network(), images(2), times(2)
    expected = built(x, t)
    built = built.to(memory_format=torch.channels_last)
    assert torch.allclose(built(x.to(memory_format=torch.channels_last), t), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{}, EVERY_OPTION])
def test_the_network_is_one_graph(options):
    # Capture is what can fail; the backend that runs the graph as it is needs no C++ compiler.
    built = network(**options)
    y = torch.tensor([0, 9]) if options else None
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images(2), times(2), y), built(images(2), times(2), y))
